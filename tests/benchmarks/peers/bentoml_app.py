"""BentoML. `bentoml serve bentoml_app:Single` or `bentoml_app:Batched`.

One worker, since TensorFlow uses all cores by itself. `Single` executes requests in the service's threads;
`Batched` uses BentoML's adaptive batching, 8 photos at most.
"""

from __future__ import annotations

from typing import Any

import bentoml
from contract import LARGEST_BATCH, PATH, photos_of
from model import Model

QUIET = {"access": {"enabled": False}}


@bentoml.service(workers=1, threads=2, traffic={"timeout": 60}, logging=QUIET)
class Single:
    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(route=PATH)
    def predict(self, instances: list[dict[str, str]]) -> dict[str, Any]:
        return {"predictions": self.model.predict(photos_of({"instances": instances}))}


@bentoml.service(workers=1, traffic={"timeout": 60}, logging=QUIET)
class Batched:
    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(route=PATH, batchable=True, max_batch_size=LARGEST_BATCH, max_latency_ms=1000)
    def predict(self, instances: list[dict[str, str]]) -> list[dict[str, Any]]:
        return self.model.predict(photos_of({"instances": instances}))
