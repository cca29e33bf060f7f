"""Which tests this machine's CPUs allow."""

from __future__ import annotations

import pytest

from tasks.lib.common import pinning

NEEDS_TWO = pytest.mark.skipif(len(pinning.usable() or ()) < 2, reason="needs two CPUs and affinity masks")
