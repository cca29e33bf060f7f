"""What every package uses: errors and their statuses, limits of size, numbers of CPUs, metrics."""
