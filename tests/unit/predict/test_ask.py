"""tasks.lib.predict.ask: which running server is asked, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.lib.common.errors import ServerError, SettingError, SuiteError
from tasks.lib.common.settings import Settings
from tasks.lib.predict import ask


@pytest.mark.parametrize(
    ("variant", "what", "flag"),
    [
        (None, "resnet", "--optimized"),
        ("optimized", "optimized resnet", "--optimized"),
        ("stock", "stock resnet", "--variant stock"),
        ("stock-bf16", "stock-bf16 resnet", "--variant stock-bf16"),  # for Docker only
    ],
)
def test_where_no_server_runs_the_line_that_starts_one_is_told(
    settings: Settings, variant: str | None, what: str, flag: str
) -> None:
    with pytest.raises(ServerError) as told:
        ask.server_to_ask(settings, "resnet", variant)
    assert told.value.problem == f"No server of {what} is running."
    assert told.value.remedy == f"Start one with `invoke serve {flag}`."


def test_a_variant_that_does_not_exist_is_told(settings: Settings) -> None:
    with pytest.raises(SettingError, match="There is no variant 'stok'"):
        ask.server_to_ask(settings, "resnet", "stok")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.jpg", None, "There is no photo or folder"),
        ("none.jsonl", None, "cannot be read"),
        ("some.jsonl", b"{}", "is not a predict, classify or regress request"),
    ],
)
def test_what_cannot_be_sent_is_told_first(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SuiteError, match=problem):
        ask.check_place(tmp_path / name)
