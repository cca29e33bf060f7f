"""The machine that measured: CPU model, instruction sets, cores, memory."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.lib.common import pinning
from tasks.lib.common.pinning import CPUs

CPUS = Path("/sys/devices/system/cpu")

INSTRUCTION_SETS = (
    ("avx2", "AVX2"),
    ("fma", "FMA"),
    ("avx512f", "AVX-512"),
    ("avx512_vnni", "VNNI"),
    ("avx512_bf16", "BF16"),
    ("amx_tile", "AMX"),
    ("amx_bf16", "AMX-BF16"),
    ("amx_int8", "AMX-INT8"),
)
"""Linux's names of what matters to inference (/proc/cpuinfo), and what people call them."""


@dataclass(frozen=True)
class Hardware:
    """What a result has to name to be worth anything."""

    cpu: str
    cores: int
    """Usable by this process: the affinity mask counts, not the socket."""
    instruction_sets: tuple[str, ...]
    memory: int
    """Bytes."""
    system: str
    """Operating system, release and architecture."""
    siblings: tuple[CPUs, ...] = ()
    """The usable CPUs, those that are threads of one core together; empty where the system does not tell."""
    governor: str | None = None
    """How the kernel chooses the frequency of the usable CPUs; None where it does not or does not tell."""
    load: tuple[float, float, float] | None = None
    """Programs that wanted a CPU, averaged over the last 1, 5 and 15 minutes; None where it is not told."""

    def __str__(self) -> str:
        """AMD EPYC, 2 cores, AVX-512 VNNI BF16"""
        # AVX-512 implies the two older ones; a table's head line has no room to say so.
        sets = [
            s
            for s in self.instruction_sets
            if "AVX-512" not in self.instruction_sets or s not in ("AVX2", "FMA")
        ]
        cores = f"{self.cores} core{'' if self.cores == 1 else 's'}"
        return ", ".join(part for part in (self.cpu, cores, " ".join(sets)) if part)


def detect() -> Hardware:
    """The machine this runs on."""
    import psutil

    cpu, flags = _linux_cpu() if Path("/proc/cpuinfo").exists() else _other_cpu()
    return Hardware(
        cpu=cpu or platform.processor() or platform.machine(),
        cores=_usable_cores(),
        instruction_sets=tuple(name for flag, name in INSTRUCTION_SETS if flag in flags),
        memory=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        siblings=tuple(cores() or ()),
        governor=_governor(),
        load=os.getloadavg() if hasattr(os, "getloadavg") else None,
    )


def cores() -> list[CPUs] | None:
    """The CPUs that this thread may use, those that are threads of one core together.

    None if the system does not tell which it may use; where it does not tell of cores, each is one.
    """
    usable = pinning.usable()
    if usable is None:
        return None
    known: dict[CPUs, None] = {}
    for cpu in usable:
        try:
            siblings = pinning.parse((CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text())
        except (OSError, ValueError):
            siblings = (cpu,)
        known[tuple(one for one in siblings if one in usable)] = None
    return list(known)


def _governor() -> str | None:
    governors = set()
    for cpu in pinning.usable() or ():
        with suppress(OSError):
            governors.add((CPUS / f"cpu{cpu}/cpufreq/scaling_governor").read_text().strip())
    return ", ".join(sorted(governors)) or None


def cpu_flags() -> frozenset[str]:
    """What the CPU can do, in Linux's names (/proc/cpuinfo); empty where the system does not tell."""
    return _linux_cpu()[1] if Path("/proc/cpuinfo").exists() else frozenset()


def _usable_cores() -> int:
    return len(pinning.usable() or ()) or os.cpu_count() or 1


def _linux_cpu() -> tuple[str, frozenset[str]]:
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    # Arm kernels say "Features", x86 ones "flags".
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", ""), frozenset(flags.split())


def _other_cpu() -> tuple[str, frozenset[str]]:
    answer = subprocess.run(
        ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip(), frozenset()
