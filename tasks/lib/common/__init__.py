"""What every package uses: errors, settings, console output, files, locks, processes, this machine's CPU.

Knows nothing of models, servers or benchmarks. May import no other package of tasks.lib.
"""
