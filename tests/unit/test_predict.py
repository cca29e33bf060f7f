"""tasks.lib.predict: which running server is asked, and what is said where there is none."""

from __future__ import annotations

import pytest

from tasks.lib import predict
from tasks.lib.errors import ServerError, SettingError
from tasks.lib.settings import Settings


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
        predict.server_to_ask(settings, "resnet", variant)
    assert told.value.problem == f"No server of {what} is running."
    assert told.value.remedy == f"Start one with `invoke serve {flag}`."


def test_a_variant_that_does_not_exist_is_told(settings: Settings) -> None:
    with pytest.raises(SettingError, match="There is no variant 'stok'"):
        predict.server_to_ask(settings, "resnet", "stok")
