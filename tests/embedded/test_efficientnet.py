"""embedded_server.efficientnet: the architecture, and weights that do not fit it.

Whether the published weights give sensible answers is seen in tests/integration, where they are fetched.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from embedded_server import efficientnet
from embedded_server.exporting.errors import Refused


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return efficientnet.network()


@pytest.fixture
def weights(network: keras.Model) -> dict[str, np.ndarray]:
    """Weights that fit, by the names and in the order of axes of the state dict."""
    random = np.random.default_rng(1)
    named = {}
    for layer in (layer for layer in network.layers if layer.weights):
        for part, variable in zip(efficientnet.parts(layer), layer.weights, strict=True):
            value = random.uniform(0.5, 1, variable.shape).astype(np.float32)
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                value = value.transpose(2, 3, 0, 1)
            elif value.ndim == 4:
                value = value.transpose(3, 2, 0, 1)
            elif value.ndim == 2:
                value = value.T
            named[f"{efficientnet.name_of(layer)}.{part}"] = value
        if isinstance(layer, keras.layers.BatchNormalization):
            named[f"{efficientnet.name_of(layer)}.num_batches_tracked"] = np.array(0)
    return named


def test_it_is_efficientnet_lite0(network: keras.Model) -> None:
    assert network.count_params() == 4_694_024  # 4.7 million, as its authors say
    assert network.output_shape == (None, 1000)
    assert sum(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in network.layers) == 16


def test_weights_that_fit_are_taken_over(network: keras.Model, weights: dict[str, np.ndarray]) -> None:
    efficientnet.load(network, weights)
    kernel = network.get_layer("conv_stem").get_weights()[0]
    assert kernel[1, 2, 0, 7] == weights["_conv_stem.weight"][7, 0, 1, 2]
    depthwise = network.get_layer("blocks.3.depthwise_conv").get_weights()[0]
    assert depthwise[4, 0, 9, 0] == weights["_blocks.3._depthwise_conv.weight"][9, 0, 4, 0]
    assert network.get_layer("fc").get_weights()[0][5, 3] == weights["_fc.weight"][3, 5]
    assert (network.get_layer("bn1").get_weights()[2] == weights["_bn1.running_mean"]).all()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("_fc.weight", None, "it has no _fc.weight"),
        ("_fc.weight", np.zeros((999, 1280), np.float32), r"its _fc.weight is float32 \(999, 1280\)"),
        ("_fc.weight", np.zeros((1000, 1280)), r"its _fc.weight is float64"),
        ("_fc.bias", np.full(1000, np.nan, np.float32), "its _fc.bias is not finite"),
        ("_conv_stem.weight", np.zeros(864, np.float32), r"its _conv_stem.weight is float32 \(864,\)"),
        ("_blocks.0._depthwise_conv.weight", np.zeros(3, np.float32), "_depthwise_conv.weight is float32"),
        ("another.weight", np.zeros(3, np.float32), "it has another.weight, which this network does not"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    network: keras.Model, weights: dict[str, np.ndarray], name: str, value: np.ndarray | None, why: str
) -> None:
    given = {key: each for key, each in (weights | {name: value}).items() if each is not None}
    with pytest.raises(Refused, match=why):
        efficientnet.load(network, given)


def test_a_refusal_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.pth").write_bytes(b"no weights")
    arguments = [f"--weights={tmp_path / 'w.pth'}", f"--output={tmp_path / 'out'}"]
    assert efficientnet.main(arguments) == efficientnet.REFUSED
    assert capsys.readouterr().err.startswith("The weights in w.pth are refused: it cannot be read as")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("height", "width"), [(256, 256), (256, 512), (1, 1), (2, 300)])
def test_the_square_in_the_centre_is_looked_at(height: int, width: int) -> None:
    columns = np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    image = efficientnet.decode(tf.io.encode_jpeg(columns, quality=100)).numpy()
    assert image.shape == (224, 224, 3)
    assert np.isfinite(image).all()
    assert image.mean() == pytest.approx((columns.mean() - 127) / 128, abs=0.05)
