"""`invoke --list` and --help: a manual, and a quick one."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.integration.conftest import ROOT

HEAVY = ("docker", "numpy", "requests", "PIL", "tqdm", "tabulate", "psutil", "filelock", "httptools")


def test_the_list_names_every_task_with_what_it_does() -> None:
    command = [sys.executable, "-m", "invoke", "--list", "--list-format=json"]
    listed = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    tasks = [
        *listed["tasks"],
        *(task for collection in listed["collections"] for task in collection["tasks"]),
    ]
    assert len(tasks) >= 14
    for task in tasks:
        assert task["help"], f"{task['name']} has no description"


def test_the_list_imports_nothing_heavy() -> None:
    """Every module is compiled again for each call, and each library costs a tenth of a second."""
    program = (
        "import sys; sys.path.insert(0, '.'); import invoke; before = set(sys.modules); import tasks; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()).isdisjoint(HEAVY)


def test_every_task_and_flag_has_help() -> None:
    # In a process of its own: Invoke hands the help of an argument out only once.
    program = (
        "import sys; sys.path.insert(0, '.'); from tasks import ns\n"
        "for name in ns.task_names:\n"
        "    helped = [f'{a.name}={bool(a.help)}' for a in ns[name].get_arguments()]\n"
        "    print(name, bool(ns[name].__doc__), *helped)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) >= 14
    assert [line for line in lines if "False" in line] == []
