"""tasks.lib.common.hardware: this machine, compared with the kernel and other tools; others as text."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tasks.lib.common import hardware, pinning
from tasks.lib.common.hardware import Hardware, detect

LINUX_X86 = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="about Linux on x86-64"
)


def machine(cpu: str = "AMD EPYC", cores: int = 2, sets: tuple[str, ...] = ()) -> Hardware:
    return Hardware(cpu, cores, sets, 8 << 30, "Linux 6.1 x86_64")


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (
            machine(sets=("AVX2", "FMA", "AVX-512", "VNNI", "BF16")),
            "AMD EPYC, 2 cores, AVX-512 VNNI BF16",
        ),
        (machine(sets=("AVX2", "FMA")), "AMD EPYC, 2 cores, AVX2 FMA"),
        (machine(cores=1), "AMD EPYC, 1 core"),
        (machine(cpu="Apple M2", cores=8), "Apple M2, 8 cores"),
    ],
)
def test_in_one_line(one: Hardware, text: str) -> None:
    assert str(one) == text


@LINUX_X86
def test_this_machine_is_what_lscpu_says() -> None:
    found = detect()
    said = subprocess.run(
        ["lscpu"], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    ).stdout
    fields = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in said.splitlines())
    }
    assert found.cpu == fields["Model name"]
    flags = fields["Flags"].split()
    for flag, name in hardware.INSTRUCTION_SETS:
        assert (name in found.instruction_sets) == (flag in flags)


def test_memory_and_system_are_those_of_the_kernel() -> None:
    found = detect()
    assert found.memory == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.system == f"{platform.system()} {platform.release()} {platform.machine()}"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_only_cores_that_may_be_used_count() -> None:
    code = (
        "import os; from tasks.lib.common.hardware import detect; "
        "before = detect().cores; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
        "print(before, detect().cores)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.split() == [str(len(os.sched_getaffinity(0))), "1"]


CPUINFO = {
    "x86": (
        "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) 6\n"
        "flags\t\t: fpu avx2 fma avx512f amx_tile amx_bf16\n\n"
        "processor\t: 1\nmodel name\t: Other\nflags\t\t: fpu\n",
        ("Intel(R) Xeon(R) 6", ("AVX2", "FMA", "AVX-512", "AMX", "AMX-BF16")),
    ),
    "arm": (
        "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\n",
        ("", ()),
    ),
    "nothing": ("", ("", ())),
}


@pytest.mark.parametrize("kind", CPUINFO)
def test_other_machines_cpuinfo(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, (cpu, sets) = CPUINFO[kind]
    (tmp_path / "cpuinfo").write_text(text)
    real = Path

    def elsewhere(path: str) -> Path:
        return real(tmp_path / "cpuinfo") if path == "/proc/cpuinfo" else real(path)

    monkeypatch.setattr(hardware, "Path", elsewhere)
    found = detect()
    assert found.cpu == (cpu or platform.processor() or platform.machine())
    assert found.instruction_sets == sets


@LINUX_X86
def test_cores_are_what_lscpu_says() -> None:
    said = subprocess.run(
        ["lscpu", "--parse=CPU,CORE,SOCKET"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    where = dict(line.split(",", 1) for line in said if not line.startswith("#"))
    expected: dict[str, list[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        expected.setdefault(where[str(cpu)], []).append(cpu)
    assert sorted(hardware.cores() or ()) == sorted(map(tuple, expected.values()))


def other_cpus(folder: Path, **files: dict[int, str]) -> Path:
    """A /sys/devices/system/cpu with these files, NAME: {CPU: text}."""
    for name, texts in files.items():
        for cpu, text in texts.items():
            place = folder / f"cpu{cpu}" / name.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{text}\n")
    return folder


def test_the_threads_of_a_core_stand_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    siblings = {cpu: f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)}
    monkeypatch.setattr(hardware, "CPUS", other_cpus(tmp_path, topology__thread_siblings_list=siblings))
    monkeypatch.setattr(pinning, "usable", lambda: (0, 1, 2, 3, 8))
    assert hardware.cores() == [(0, 2), (1, 3), (8,)]
    monkeypatch.setattr(pinning, "usable", lambda: (1, 2, 3))
    assert hardware.cores() == [(1, 3), (2,)], "only what may be used"
    monkeypatch.setattr(pinning, "usable", lambda: None)
    assert hardware.cores() is None


def test_the_governor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    governors = {0: "performance", 1: "performance", 2: "powersave"}
    monkeypatch.setattr(hardware, "CPUS", other_cpus(tmp_path, cpufreq__scaling_governor=governors))
    for usable, governor in (((0, 1), "performance"), ((1, 2), "performance, powersave"), ((3,), None)):
        monkeypatch.setattr(pinning, "usable", lambda usable=usable: usable)
        assert detect().governor == governor


@pytest.mark.skipif(platform.system() != "Linux", reason="about Linux")
def test_the_load_is_the_kernel_s() -> None:
    load = detect().load
    assert load is not None
    said = [float(word) for word in Path("/proc/loadavg").read_text().split()[:3]]
    assert load[2] == pytest.approx(said[2], abs=0.5)


def test_it_can_be_written_down() -> None:
    assert set(asdict(detect())) == {
        "cpu", "cores", "instruction_sets", "memory", "system", "siblings", "governor", "load",
    }  # fmt: skip
