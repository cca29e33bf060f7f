"""LitServe. `python litserve_app.py single` or `batched`.

Two workers, so that two requests are executed at once; the batched one has one, as TensorFlow uses all cores
for a batch, and takes what has come within 5 ms, 8 photos at most. LitServe hands the hints of decode_request
to FastAPI, so there are none.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
from contract import LARGEST_BATCH, PATH, photos_of, port
from model import Model


class Single(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = Model()

    def decode_request(self, request) -> list[bytes]:
        return photos_of(request)

    def predict(self, photos: list[bytes]) -> list[dict[str, Any]]:
        return self.model.predict(photos)

    def encode_response(self, answers: list[dict[str, Any]]) -> dict[str, Any]:
        return {"predictions": answers}


class Batched(Single):
    """Each request of the benchmark has one photo; LitServe makes a list of them."""

    def decode_request(self, request) -> Any:
        return photos_of(request)[0]

    def batch(self, photos: list[bytes]) -> list[bytes]:
        return photos

    def unbatch(self, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return answers

    def encode_response(self, answer: Any) -> dict[str, Any]:
        return {"predictions": [answer]}


if __name__ == "__main__":
    if sys.argv[1] == "batched":
        api: litserve.LitAPI = Batched(max_batch_size=LARGEST_BATCH, batch_timeout=0.005, api_path=PATH)
        workers = 1
    else:
        api, workers = Single(api_path=PATH), 2
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=60)
    server.run(
        host="127.0.0.1", port=port(), generate_client_file=False, log_level="warning", access_log=False
    )
