"""Two contestants that tests make up, and a plan that measures almost nothing."""

from __future__ import annotations

from tasks.lib.common.settings import Plan
from tasks.lib.measure.verdict import Contestant
from tests.helpers.answers import scored

STOCK = Contestant("stock", "net@1", ("http://127.0.0.1:1/v1/models/net",), "TensorFlow", "f32")
OPTIMIZED = Contestant("optimized", "net@1", ("http://127.0.0.1:2/v1/models/net",), "OpenVINO", "bf16")
SAME = scored(12, 0.001)
HURRY = Plan(
    ci_width=0.02, max_seconds=0, max_errors=0.01, block_requests=2, warmup_seconds=0, seed=1, timeout=10
)
"""One short round."""
