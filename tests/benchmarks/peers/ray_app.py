"""Ray Serve. `python ray_app.py` serves both, below /single and /batched.

One replica, since TensorFlow uses all cores by itself, and no FastAPI between. The batched one waits 5 ms
for 8 photos at most.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray
from contract import LARGEST_BATCH, photos_of, port
from model import Model
from ray import serve
from starlette.requests import Request


class Base:
    def __init__(self) -> None:
        self.model = Model()


@serve.deployment(num_replicas=1, max_ongoing_requests=16, ray_actor_options={"num_cpus": 0})
class Single(Base):
    async def __call__(self, request: Request) -> dict[str, Any]:
        photos = photos_of(await request.json())
        return {"predictions": await asyncio.to_thread(self.model.predict, photos)}


@serve.deployment(num_replicas=1, max_ongoing_requests=16, ray_actor_options={"num_cpus": 0})
class Batched(Base):
    @serve.batch(max_batch_size=LARGEST_BATCH, batch_wait_timeout_s=0.005)
    async def _predict(self, photos: list[bytes]) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.model.predict, photos)

    async def __call__(self, request: Request) -> dict[str, Any]:
        (photo,) = photos_of(await request.json())
        return {"predictions": [await self._predict(photo)]}


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port()})
    for name, kind in {"single": Single, "batched": Batched}.items():
        serve.run(
            kind.bind(), name=name, route_prefix=f"/{name}", logging_config={"enable_access_log": False}
        )
    while True:
        time.sleep(3600)
