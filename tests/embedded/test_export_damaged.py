"""Keras files that are damaged, have false sizes, or lead to other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from embedded_server import export
from embedded_server.exporting import configuration
from keras_models import exported, forms, instance, last, layers, refused, saved, saved_h5, small

# Keras warns of what it does itself, such as how it makes NumPy arrays, and of files in the form of Keras 2.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "its configuration is not JSON"),
        ("[" * 100_000, "its configuration is not JSON"),
        ("[]", "its configuration describes no model"),
        ("{}", "its configuration describes no model"),
        ('"text"', "its configuration describes no model"),
    ],
    ids=["cut", "deep", "list", "empty", "text"],
)
def test_a_configuration_that_is_none(
    tmp_path: Path, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(small(), tmp_path)
    (source / "config.json").write_text(text)
    assert why in refused(source, tmp_path, capsys)
    file = saved_h5(small(), tmp_path)
    with h5py.File(file, "r+") as content:
        content.attrs["model_config"] = text[:1000]
    assert "its configuration" in refused(file, tmp_path, capsys)


def test_depth_is_no_way_round(tmp_path: Path) -> None:
    described: dict[str, Any] = instance("os", "system")
    for _ in range(50_000):
        described = {"x": [described]}
    with pytest.raises(configuration.Refused, match="of the Python module 'os'"):
        configuration.check(described)


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_a_part_is_missing(tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = saved(small(), tmp_path)
    (source / missing).unlink()
    assert refused(source, tmp_path, capsys) == f"it holds no {missing}, as .keras files do"


def test_weights_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small().save_weights(tmp_path / "model.weights.h5")
    assert "it holds no model, only weights" in refused(tmp_path / "model.weights.h5", tmp_path, capsys)


@pytest.mark.parametrize("size", [0, 7, 8, 500, 5000])
def test_an_hdf5_file_that_is_cut_short(
    tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved_h5(small(), tmp_path)
    file.write_bytes(file.read_bytes()[:size])
    assert "cannot be read" in refused(file, tmp_path, capsys)


def external_link(group: h5py.Group, secret: Path) -> None:
    group["evil"] = h5py.ExternalLink(str(secret), "/data")
    assert group["evil"][0] == 42


def soft_link(group: h5py.Group, secret: Path) -> None:
    group["evil"] = h5py.SoftLink("/")


def external_storage(group: h5py.Group, secret: Path) -> None:
    raw = secret.with_suffix(".raw")
    raw.write_bytes(np.array([42.0], np.float32).tobytes())
    data = group.create_dataset("evil", (1,), np.float32, external=[(str(raw), 0, 4)])
    assert data[0] == 42


def virtual_dataset(group: h5py.Group, secret: Path) -> None:
    layout = h5py.VirtualLayout((1,), np.float32)
    layout[:] = h5py.VirtualSource(str(secret), "data", (1,))
    assert group.create_virtual_dataset("evil", layout)[0] == 42


def strange_filter(group: h5py.Group, secret: Path) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((1,))
    h5py.h5d.create(group.id, b"evil", h5py.h5t.IEEE_F32LE, space, properties)


def bomb(group: h5py.Group, secret: Path) -> None:
    data = group.create_dataset("evil", (1 << 40,), np.float32, chunks=(1 << 20,), compression="gzip")
    assert data.id.get_storage_size() == 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (external_link, "/evil' in it is a link to the file "),
        (soft_link, "/evil' in it is a link, which Keras does not write"),
        (external_storage, "/evil' in it has its data in the file "),
        (virtual_dataset, "/evil' in it has its data in other files (a virtual dataset)"),
        (strange_filter, "/evil' in it needs the HDF5 filter 32015"),
        (bomb, "its weights would take 4398046"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@forms
def test_weights_that_lead_out_of_the_file(
    tmp_path: Path,
    make: Callable[[h5py.Group, Path], None],
    why: str,
    form: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as other:
        other["data"] = np.array([42.0], np.float32)
    source = form(small(), tmp_path)
    weights = source / "model.weights.h5" if source.is_dir() else source
    with h5py.File(weights, "r+") as content:
        make(content.create_group("deep/er"), secret)
    assert why in refused(source, tmp_path, capsys)


def test_a_group_that_holds_itself(tmp_path: Path) -> None:
    file = saved_h5(small(), tmp_path)
    with h5py.File(file, "r+") as content:
        content["model_weights/itself"] = content["model_weights"]
    assert exported(file, tmp_path).signatures


def test_what_keras_cannot_load_is_told_in_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(described: dict[str, Any]) -> None:
        last(described)["time_major"] = False

    for form in (saved, saved_h5):
        reason = refused(form(small(), tmp_path, change), tmp_path, capsys)
        assert reason.startswith(f"Keras {keras.__version__} cannot load it: Unrecognized keyword argument")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ValueError"),
        ("first\n\n  last line.  \n", "last line."),
        ("Unknown layer: 'X'. Please ensure you are using a scope", "Unknown layer: 'X'."),
        ("It failed.\n\nException encountered: really", "really"),
        ("\x1b[1mIt failed.\x1b[0m\n\nArguments received by Dense.call():\n  x", "It failed."),
        ("a name \x1b]0;title\x07 of the file", "a name ]0;title of the file"),
        ("x" * 1000, "x" * 397 + "..."),
    ],
)
def test_the_reason_is_one_short_line(text: str, reason: str) -> None:
    assert export._reason(ValueError(text)) == reason


def test_an_unbuilt_model_is_told_in_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([layers.Dense(2)])
    source = saved(model, tmp_path)
    assert f"Keras {keras.__version__} cannot export it" in refused(source, tmp_path, capsys)
