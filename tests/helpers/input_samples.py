"""What the tests of inputs share."""

from __future__ import annotations

import json
from typing import Any

from tasks.lib.client.inputs import Sample


def instances(samples: list[Sample]) -> list[Any]:
    """What is in each request, which must be JSON in row form with one instance."""
    found = []
    for sample in samples:
        request = json.loads(sample.body)
        assert list(request) == ["instances"]
        (instance,) = request["instances"]
        found.append(instance)
    return found
