"""tasks.lib.contest, with stand-ins for servers; real ones take part in tests/integration."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.lib import contest
from tests.unit.commandline import ROOT
from tests.unit.standin import at_a_desk

pytestmark = pytest.mark.processes


def test_one_alone_that_time_cuts_short_knows_its_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at_a_desk(tmp_path, monkeypatch) as desk:
        shutil.copytree(ROOT / "models" / "samples", desk.settings.paths.models / "samples")
        hurried = replace(desk.settings.benchmark, max_seconds=0.0, block_requests=2, warmup_requests=0)
        [done] = contest.run(replace(desk.settings, benchmark=hurried), "net", None, ["stock"], "local")
    assert done.alone is not None
    assert (done.rounds, done.alone.rounds, done.alone.measured.requests) == (2, 2, 8)
    assert done.note is not None
    assert "ended after 2 of 14 rounds, at 0 s" in done.note
    assert "INVOKE_BENCHMARK_MAX_SECONDS" in done.note
