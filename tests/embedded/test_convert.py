"""Converting: what is cut where, what is refused, and that both halves together answer like TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from embedded_server import convert
from embedded_server.common.errors import InvalidArgument, ServingError, StartError
from embedded_server.execution import artefact
from embedded_server.execution.backend import Array
from embedded_server.execution.openvino_backend import OpenVinoBackend
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from running import Server

SAMPLES = Path(__file__).resolve().parents[2] / "models" / "samples"
VERSIONS = {"tf1": "1538687457", "keras": "1", "plain": "3"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models that can be optimized, with their artefacts."""
    folder = tmp_path_factory.mktemp("optimizable")
    saved_models.main(folder)
    for name, version in VERSIONS.items():
        convert.convert(folder / name / version, folder / name / ".optimized" / version, "a fingerprint")
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of saved_models.write_texts, with its artefact."""
    folder = tmp_path_factory.mktemp("texts")
    saved_models.write_texts(folder / "1")
    convert.convert(folder / "1", folder / ".optimized" / "1", "")
    return folder


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of saved_models.write_loops, with its artefact."""
    folder = tmp_path_factory.mktemp("loops")
    saved_models.write_loops(folder / "1")
    manifest = convert.convert(folder / "1", folder / ".optimized" / "1", "")
    assert set(manifest.programs) == {"multiplied", "unranked"}
    assert set(manifest.unconverted) == {"counted"}
    return folder


def inputs_for(name: str, count: int) -> dict[str, Array]:
    random = np.random.default_rng(5)
    if name == "tf1":
        photos = [photo.read_bytes() for photo in sorted(SAMPLES.glob("*.jpg"))[:count]]
        return {"image_bytes": np.array(photos, dtype=object)}
    if name == "keras":
        return {"keras_tensor": random.random((count, 64, 64, 3), np.float32)}
    return {"x": random.random((count, 4), np.float32), "offset": random.random((count, 3), np.float32)}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", VERSIONS)
def test_both_halves_together_answer_like_tensorflow(made: Path, name: str, count: int) -> None:
    version = VERSIONS[name]
    stock = TensorFlowBackend.load(made / name / version)
    optimized = OpenVinoBackend.load(made / name / version, made / name / ".optimized" / version, "f32")
    assert optimized.signatures == stock.signatures
    inputs = inputs_for(name, count)
    expected = stock.run("serving_default", inputs)
    answer = optimized.run("serving_default", inputs)
    assert answer.keys() == expected.keys()
    for output, value in expected.items():
        assert answer[output].dtype == value.dtype
        np.testing.assert_allclose(answer[output], value, rtol=1e-4, atol=1e-5)
    first = next(iter(expected))
    assert list(optimized.run("serving_default", inputs, [first])) == [first]


def test_jpeg_decoding_stays_with_tensorflow_and_arithmetic_goes(made: Path) -> None:
    folder = made / "tf1" / ".optimized" / VERSIONS["tf1"]
    program = artefact.read(folder).programs["serving_default"]
    assert program.around is not None
    around = tf.compat.v1.GraphDef.FromString((folder / program.around).read_bytes())
    operations = {node.op for node in around.node}
    assert "DecodeJpeg" in operations
    assert operations.isdisjoint({"Conv2D", "MatMul"})
    # The loop as the official archive has it, not as it would be written today.
    assert any(
        tensor.startswith("map/TensorArrayStack/TensorArrayGatherV3")
        for tensor in program.body_inputs.values()
    )
    assert "Convolution" in (folder / program.body).read_text()


def test_signatures_that_compute_the_same_share_their_files(made: Path) -> None:
    manifest = artefact.read(made / "tf1" / ".optimized" / VERSIONS["tf1"])
    assert set(manifest.programs) == {"predict", "serving_default"}
    assert manifest.programs["predict"] == manifest.programs["serving_default"]
    assert sorted(manifest.files) == ["around-0.pb", "body-0.bin", "body-0.xml"]


@pytest.mark.parametrize("name", ["serving_default", "again", "renamed", "unsigned"])
def test_signatures_over_one_network_keep_their_names_and_preprocessing(texts: Path, name: str) -> None:
    stock = TensorFlowBackend.load(texts / "1")
    optimized = OpenVinoBackend.load(texts / "1", texts / ".optimized" / "1", "f32")
    (alias,) = stock.signatures[name].inputs
    inputs = {alias: np.array([b"-2", b"3"], dtype=object)}
    expected = stock.run(name, inputs)
    answer = optimized.run(name, inputs)
    assert answer.keys() == expected.keys()
    for output, value in expected.items():
        np.testing.assert_array_equal(answer[output], value)


def test_signatures_share_what_is_the_same_in_everything(texts: Path) -> None:
    manifest = artefact.read(texts / ".optimized" / "1")
    assert not manifest.unconverted
    assert manifest.programs["again"] == manifest.programs["serving_default"]
    assert len({program.body for program in manifest.programs.values()}) == 3


def test_a_model_of_pixels_is_openvinos_alone(made: Path) -> None:
    program = artefact.read(made / "keras" / ".optimized" / "1").programs["serving_default"]
    assert program.around is None
    assert program.share == 1.0


def test_what_cannot_be_converted_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_models.write_two_signatures(tmp_path / "two" / "1")
    with pytest.raises(convert.CannotConvert, match=r"^it has no convolution or matrix product$"):
        convert.convert(tmp_path / "two" / "1", tmp_path / "artefact", "")
    code = convert.main([f"--model={tmp_path / 'two' / '1'}", f"--output={tmp_path / 'b'}", "--fingerprint="])
    assert code == convert.NOTHING_CONVERTED
    assert capsys.readouterr().err.splitlines()[-1] == "it has no convolution or matrix product"
    code = convert.main([f"--model={tmp_path / 'none'}", f"--output={tmp_path / 'c'}", "--fingerprint="])
    assert code == 1
    assert "cannot load the SavedModel in" in capsys.readouterr().err.splitlines()[-1]


def test_signatures_that_cannot_be_converted_are_executed_by_tensorflow(models: Path, tmp_path: Path) -> None:
    manifest = convert.convert(models / "module" / "3", tmp_path / "artefact", "")
    assert "serving_default" in manifest.programs
    assert "no convolution or matrix product" in manifest.unconverted["text"]
    backend = OpenVinoBackend.load(models / "module" / "3", tmp_path / "artefact", "f32")
    answer = backend.run("text", {"text": np.array([b"abc"], dtype=object)})
    assert answer["upper"].tolist() == [b"ABC"]


@pytest.mark.parametrize("shape", [(2,), (1, 64, 64), (1, 64, 64, 4), (1, 32, 64, 3), (0, 64, 64, 3)])
def test_a_shape_that_the_signature_does_not_have_is_tensorflows(made: Path, shape: tuple[int, ...]) -> None:
    """It answers those that its operations take, and says what is wrong with the others."""
    handed_over: list[tuple[str, str]] = []
    stock = TensorFlowBackend.load(made / "keras" / "1")
    backend = OpenVinoBackend.load(
        made / "keras" / "1",
        made / "keras" / ".optimized" / "1",
        "f32",
        handed_over=lambda signature, reason: handed_over.append((signature, reason)),
    )
    inputs = {"keras_tensor": np.zeros(shape, np.float32)}

    def outcome(of: TensorFlowBackend | OpenVinoBackend) -> object:
        try:
            return {name: array.tolist() for name, array in of.run("serving_default", inputs).items()}
        except ServingError as error:
            return type(error)

    assert outcome(backend) == outcome(stock)
    assert handed_over == [("serving_default", "shape")]


def test_inputs_that_do_not_fit_each_other_are_refused(made: Path) -> None:
    backend = OpenVinoBackend.load(made / "plain" / "3", made / "plain" / ".optimized" / "3", "f32")
    with pytest.raises(InvalidArgument):
        backend.run(
            "serving_default", {"x": np.zeros((2, 4), np.float32), "offset": np.zeros((3, 3), np.float32)}
        )
    good = backend.run("serving_default", inputs_for("plain", 2))
    assert good["y"].shape == (2, 3)


def test_bytes_that_are_no_jpeg_are_refused(made: Path) -> None:
    folder = made / "tf1"
    backend = OpenVinoBackend.load(folder / VERSIONS["tf1"], folder / ".optimized" / VERSIONS["tf1"], "f32")
    with pytest.raises(InvalidArgument):
        backend.run("serving_default", {"image_bytes": np.array([b"not a jpeg"], dtype=object)})


def test_what_takes_too_long_in_tensorflow_is_given_up(loops: Path) -> None:
    limits = ("--rest_api_num_threads=1", "--rest_api_timeout_in_ms=2000")
    flags = (f"--model_base_path={loops}", "--backend=openvino", "--precision=f32", *limits)
    with Server(*flags) as server:
        for name, answer in (("multiplied", [[6.0]]), ("counted", 3)):
            body = {"signature_name": name, "inputs": [str(10**12)]}
            assert server.call("POST", "/v1/models/default:predict", body)[0] == 504
            # The only thread is free again.
            body["inputs"] = ["3"]
            assert server.call("POST", "/v1/models/default:predict", body) == (200, {"outputs": answer})


@pytest.mark.parametrize("model", ["texts", "loops"])
def test_numbers_of_threads_reach_tensorflow(model: str, request: pytest.FixtureRequest) -> None:
    """With fronts alone, and with a signature that TensorFlow executes as a whole."""

    def threads(intra: int, inter: int) -> list[str]:
        parallelism = (
            f"--tensorflow_intra_op_parallelism={intra}",
            f"--tensorflow_inter_op_parallelism={inter}",
        )
        base = f"--model_base_path={request.getfixturevalue(model)}"
        with Server(base, "--backend=openvino", "--precision=f32", *parallelism) as server:
            return [name.read_text() for name in Path(f"/proc/{server.process.pid}/task").glob("*/comm")]

    few, many = threads(1, 3), threads(33, 7)
    assert few.count("tf_Compute\n") == 3
    assert many.count("tf_Compute\n") == 7
    # Threads within operations have no name of their own, and OpenVINO has as many as it had.
    assert len(many) - len(few) > 30


def test_a_missing_or_damaged_artefact_is_refused(made: Path, tmp_path: Path) -> None:
    model = made / "plain" / "3"
    with pytest.raises(StartError, match="there is no optimized artefact"):
        OpenVinoBackend.load(model, tmp_path, "f32")
    manifest = convert.convert(model, tmp_path / "artefact", "")
    with pytest.raises(StartError, match="no precision was chosen"):
        OpenVinoBackend.load(model, tmp_path / "artefact", "auto")
    (tmp_path / "artefact" / next(iter(manifest.files))).write_bytes(b"something else")
    with pytest.raises(StartError, match="is damaged"):
        OpenVinoBackend.load(model, tmp_path / "artefact", "f32")
    (tmp_path / "artefact" / artefact.MANIFEST).write_text("{")
    with pytest.raises(StartError, match="is damaged"):
        OpenVinoBackend.load(model, tmp_path / "artefact", "f32")


def test_the_manifest_says_what_it_was_made_from(made: Path) -> None:
    content = json.loads((made / "keras" / ".optimized" / "1" / artefact.MANIFEST).read_text())
    assert content["fingerprint"] == "a fingerprint"
    assert content["precision"] is None
