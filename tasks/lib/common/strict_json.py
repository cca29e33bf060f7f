"""JSON that every reader takes: infinities, which JSON has not, become null."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

LIST = re.compile(r"""\[\n\s+((?:[-\d.eE+]+|null|"[a-z]*")(?:,\n\s+(?:[-\d.eE+]+|null|"[a-z]*"))*)\n\s+\]""")
"""A list of numbers and words as json.dumps indents it. No text looks so: a line ends in none."""


def as_json(value: object) -> str:
    """`value` as text. A list of plain values is one line: that of all blocks would else be thousands."""
    text = json.dumps(finite(value), indent=2, allow_nan=False)
    return LIST.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def finite(value: Any) -> Any:
    """`value` as JSON can hold it: tuples as lists, infinities and what is no number as None."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
