"""The programs that run for long, run for a moment."""

from __future__ import annotations

import soak


def test_good_clients_do_not_notice_the_others() -> None:
    assert soak.run(seconds=6, reload_seconds=2)
