"""The worked example's stand-in: the official signature, and photos that are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embedded_server import seeded
from embedded_server.execution.tensorflow_backend import TensorFlowBackend

SAMPLES = sorted((Path(__file__).resolve().parents[2] / "models" / "samples").glob("*.jpg"))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("seeded") / "1"
    return folder, seeded.build(folder, SAMPLES, seed=1)


def test_it_has_the_official_signature(resnet: tuple[Path, list[dict[str, object]]]) -> None:
    backend = TensorFlowBackend.load(resnet[0])
    for name in ("serving_default", "predict"):
        signature = backend.signatures[name]
        assert {n: (s.dtype.name, s.shape) for n, s in signature.inputs.items()} == {
            "image_bytes": ("string", (None,))
        }
        assert {n: (s.dtype.name, s.shape) for n, s in signature.outputs.items()} == {
            "classes": ("int64", (None,)),
            "probabilities": ("float", (None, 1001)),
        }


def test_what_is_saved_tells_the_photos_apart_as_reported(
    resnet: tuple[Path, list[dict[str, object]]],
) -> None:
    folder, report = resnet
    backend = TensorFlowBackend.load(folder)
    answer = backend.run(
        "predict", {"image_bytes": np.array([p.read_bytes() for p in SAMPLES], dtype=object)}
    )
    ranked = np.sort(answer["probabilities"], axis=1)
    margins = ranked[:, -1] - ranked[:, -2]
    assert answer["classes"].tolist() == [one["class"] for one in report]
    assert len(set(answer["classes"].tolist())) == len(SAMPLES)
    assert answer["classes"].min() >= 1  # 0 is the background
    np.testing.assert_allclose(margins, [one["margin"] for one in report], atol=1e-4)
    assert margins.min() > 0.15
    np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1, atol=1e-4)


def test_it_has_the_weights_of_a_resnet_50() -> None:
    network = seeded.ResNet50V2(1)
    images = np.random.default_rng(1).normal(size=(2, 224, 224, 3)).astype(np.float32)
    features = network.features(images, network.calibrate)
    assert features.shape == (2, 2048)
    kernels = [v for name, v in network.variables_by_name.items() if name.endswith("/weights")]
    assert len(kernels) == 53
    # 23.4 million in the convolutions, as in every ResNet-50; the head would bring another 2 million.
    assert sum(int(np.prod(kernel.shape)) for kernel in kernels) == 23_454_912
