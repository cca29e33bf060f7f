"""The REST contract, over HTTP to the real program."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from running import PATIENCE, Server

PREDICT = "/v1/models/module:predict"
OK = {"error_code": "OK", "error_message": ""}
STATUS = {"model_version_status": [{"version": "3", "state": "AVAILABLE", "status": OK}]}


@pytest.fixture(scope="module")
def direct(models: Path) -> Any:
    """The signatures of the module, executed by TensorFlow in this process."""
    return tf.saved_model.load(str(models / "module" / "3")).signatures


def predict(server: Server, body: Any) -> Any:
    status, answer = server.call("POST", PREDICT, body)
    assert status == 200, answer
    return answer


def test_status(module_server: Server) -> None:
    for path in ("/v1/models/module", "/v1/models/module/versions/3", "/V1/Models/module?x=1"):
        assert module_server.call("GET", path) == (200, STATUS)


def test_metadata(module_server: Server) -> None:
    status, answer = module_server.call("GET", "/v1/models/module/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "module", "signature_name": "", "version": "3"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    several = signatures["several"]
    assert several["method_name"] == "tensorflow/serving/predict"
    assert several["inputs"]["a"]["dtype"] == "DT_FLOAT"
    assert several["inputs"]["a"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
        "unknown_rank": False,
    }
    assert signatures["echo_int64"]["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
    assert signatures["scalar"]["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": False}
    assert module_server.call("GET", "/v1/models/module/versions/3/metadata") == (status, answer)


def test_predict_in_both_forms(module_server: Server, direct: Any) -> None:
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    expected = direct["serving_default"](x=x)["y"].numpy()
    rows = predict(module_server, {"instances": x.tolist()})["predictions"]
    np.testing.assert_array_equal(np.array(rows, np.float32), expected)
    named = {"instances": [{"x": row} for row in x.tolist()], "signature_name": "serving_default"}
    assert predict(module_server, named)["predictions"] == rows
    for inputs in (x.tolist(), {"x": x.tolist()}):
        assert predict(module_server, {"inputs": inputs, "signature_name": ""})["outputs"] == rows


def test_several_inputs_and_outputs(module_server: Server, direct: Any) -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([10, -3])
    expected = {name: value.numpy() for name, value in direct["several"](a=a, b=b).items()}
    columns = {"signature_name": "several", "inputs": {"a": a.tolist(), "b": b.tolist()}}
    outputs = predict(module_server, columns)["outputs"]
    assert outputs == {name: value.tolist() for name, value in expected.items()}
    instances = [{"a": row.tolist(), "b": int(number)} for row, number in zip(a, b, strict=True)]
    rows = predict(module_server, {"signature_name": "several", "instances": instances})["predictions"]
    assert rows == [{name: value[i].tolist() for name, value in expected.items()} for i in range(2)]


@pytest.mark.parametrize("dtype", saved_models.DTYPES)
def test_every_dtype(module_server: Server, direct: Any, dtype: str) -> None:
    values = [[True, False]] if dtype == "bool" else [[0, 1, 100]]
    if "float" in dtype:
        values = [[0.1, -2.5, 100.0]]
    tensor = tf.constant(values, dtype=dtype)
    expected = direct[f"echo_{dtype}"](x=tensor)["y"]
    body = {"signature_name": f"echo_{dtype}", "instances": values}
    answer = predict(module_server, body)["predictions"]
    assert tf.reduce_all(tf.constant(answer, dtype=dtype) == expected)
    assert [type(value) for value in answer[0]] == [type(value) for value in values[0]]


def test_text_and_bytes(module_server: Server) -> None:
    words = ["one", "zwölf"]
    body = {"signature_name": "text", "instances": words}
    raw = [base64.b64encode(word.encode() + b"\x00\xff").decode() for word in words]
    expected = [
        {"upper": "ONE", "raw_bytes": {"b64": raw[0]}},
        {"upper": "ZWöLF", "raw_bytes": {"b64": raw[1]}},
    ]
    assert predict(module_server, body)["predictions"] == expected
    encoded = [{"b64": base64.b64encode(word.encode()).decode()} for word in words]
    assert predict(module_server, {**body, "instances": encoded})["predictions"] == expected
    one = {"signature_name": "text", "inputs": "one"}
    assert predict(module_server, one)["outputs"] == {"upper": "ONE", "raw_bytes": {"b64": raw[0]}}
    matrix = {"signature_name": "matrix_text", "inputs": [["a", "b"], ["c", encoded[0]]]}
    assert predict(module_server, matrix)["outputs"] == [["A", "B"], ["C", "ONE"]]


def test_scalars(module_server: Server) -> None:
    assert predict(module_server, {"signature_name": "scalar", "inputs": 1.5}) == {"outputs": 2.5}
    assert predict(module_server, {"signature_name": "scalar", "inputs": {"x": 1}}) == {"outputs": 2.0}


def test_nan_and_infinity(module_server: Server) -> None:
    expected = [float("-inf"), float("nan"), float("inf"), 0.0]
    for signature in ("logarithm", "logarithms"):
        body = {"signature_name": signature, "instances": [0.0, -1.0, float("inf"), 1.0]}
        rows = predict(module_server, body)["predictions"]
        values = rows if signature == "logarithm" else [row["y"] for row in rows]
        np.testing.assert_array_equal(values, expected)


def test_photos_and_names_that_are_no_identifiers(photo_server: Server, models: Path) -> None:
    photos = [saved_models.photo(seed) for seed in range(2)]
    encoded = [{"b64": base64.b64encode(photo).decode()} for photo in photos]
    path = "/v1/models/photos/versions/1538687457:predict"
    status, answer = photo_server.call("POST", path, {"instances": encoded})
    assert status == 200, answer
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        folder = str(models / "photos" / "1538687457")
        proto = tf.compat.v1.saved_model.load(session, ["serve"], folder).signature_def["predict"]
        expected = session.run(
            {name: info.name for name, info in proto.outputs.items()},
            {proto.inputs[saved_models.PHOTO_INPUT].name: photos},
        )
    for row, prediction in enumerate(answer["predictions"]):
        assert prediction["classes"] == prediction["top-1 class"] == expected["classes"][row]
        np.testing.assert_array_equal(
            np.array(prediction["probabilities"], np.float32), expected["probabilities"][row]
        )
        assert prediction["label"] == expected["label"][row].decode()
        assert prediction["given_bytes"] == encoded[row]
    named = [{saved_models.PHOTO_INPUT: value} for value in encoded]
    assert photo_server.call("POST", path, {"instances": named}) == (200, answer)
    status, refusal = photo_server.call("POST", path, {"instances": ["no JPEG"]})
    assert status == 400
    assert "Unknown image file format" in refusal["error"] or "JPEG" in refusal["error"]
    assert photo_server.call("POST", path, {"instances": encoded}) == (200, answer), "none the worse for it"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/models/no", 404, "Could not find any versions of model no"),
        ("GET", "/v1/models/module/versions/7", 404, "Could not find version 7 of model module"),
        ("GET", "/v1/models/no/metadata", 404, "Servable not found for request: Latest(no)"),
        ("GET", "/v1/models/module/versions/7/metadata", 404, "request: Specific(module, 7)"),
        ("GET", "/v1/models/module/labels/x/metadata", 400, "Unrecognized servable version label: x"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/module:predict", 400, "Malformed request: GET /v1/models/module:predict"),
        ("GET", "/v1/models/module/version/3", 400, "Malformed request"),
        ("GET", "/v1/models/module/versions/9223372036854775808", 400, "Failed to convert version"),
        ("GET", f"/v1/models/module/versions/{'9' * 5000}", 400, "Failed to convert version"),
        ("GET", "/", 404, "nothing is served at /"),
        ("POST", "/v1/models/no:predict", 404, "Servable not found for request: Latest(no)"),
        ("POST", "/v1/models/module/versions/7:predict", 404, "Specific(module, 7)"),
        ("POST", "/v1/models/module/labels/x:predict", 400, "Unrecognized servable version label: x"),
        ("POST", "/v1/models/module:PREDICT", 400, "Malformed request: POST /v1/models/module:PREDICT"),
        ("POST", "/v1/models/module", 400, "Malformed request: POST /v1/models/module"),
        ("POST", "/v1/models/module:classify", 400, "key 'examples' is expected and was not found"),
        ("POST", "/v1/models/no/labels/x:regress", 400, "key 'examples' is expected and was not found"),
        ("PUT", "/v1/models/module:predict", 400, "Malformed request: PUT"),
        ("DELETE", "/v1/models/module", 400, "Malformed request: DELETE"),
    ],
)
def test_paths_that_are_refused(
    module_server: Server, method: str, path: str, status: int, message: str
) -> None:
    actual, answer = module_server.call(method, path, {"instances": [[1, 2]]} if method == "POST" else None)
    assert (actual, list(answer)) == (status, ["error"])
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b"{", "JSON Parse error"),
        (b'{"instances": [\xff]}', "JSON Parse error"),
        ({"instances": [[1, 2], [3]]}, "Expecting tensor size: 2 but got: 1"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "only one of"),
        ({"instances": [[1, 2]], "signature_name": "no"}, 'Serving signature name: "no" not found'),
        ({"instances": [{"z": [1, 2]}]}, "does not have named input: z"),
        ({"inputs": {"z": [[1, 2]]}}, "Missing named input: x"),
        ({"instances": [["a", "b"]]}, "is not of expected type: float"),
        ({"instances": [[1, 2, 3]]}, "Matrix size-incompatible"),
        ({"instances": [1, 2]}, ""),  # the model's own words
        ({"signature_name": "constant_rows", "instances": [1.0]}, "inconsistent batch size"),
        ({"signature_name": "complex", "instances": [1.0]}, "tensor type: complex64"),
        ({"signature_name": "complex_in", "instances": [1.0]}, "to type: complex64"),
        ({"signature_name": "__saved_model_init_op", "inputs": 1}, "Failed to get input map"),
    ],
)
def test_bodies_that_are_refused(module_server: Server, body: Any, message: str) -> None:
    status, answer = module_server.call("POST", PREDICT, body)
    assert (status, list(answer)) == (400, ["error"])
    assert message in answer["error"]


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_bodies_nested_too_deeply(module_server: Server, depth: int) -> None:
    lines = len(module_server.log)
    deep = "[" * depth + "1" + "]" * depth
    for text in (f'{{"inputs": {deep}}}', f'{{"instances": [{deep}, 1]}}', f'{{"instances": [NaN, {deep}]}}'):
        status, answer = module_server.call("POST", PREDICT, text.encode())
        assert (status, list(answer)) == (400, ["error"])
    assert "Traceback" not in "".join(module_server.log[lines:])


def test_gzip(module_server: Server) -> None:
    body = json.dumps({"instances": [[1, 2]]}).encode()
    packed = gzip.compress(body)
    headers = {"Content-Encoding": "gzip"}
    expected = module_server.call("POST", PREDICT, body)
    assert expected[0] == 200
    assert module_server.call("POST", PREDICT, packed, headers) == expected
    for bad in (body, packed[:-4]):
        status, answer = module_server.call("POST", PREDICT, bad, headers)
        assert status == 400
        assert "not valid gzip" in answer["error"]
    status, answer = module_server.call("POST", PREDICT, body, {"Content-Encoding": "br"})
    assert status == 400
    assert "br is not supported" in answer["error"]


def test_large_input_and_chunked_body(module_server: Server) -> None:
    x = np.random.default_rng(0).normal(size=(200_000, 2)).astype(np.float32)
    body = json.dumps({"instances": x.tolist()}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", module_server.port, timeout=PATIENCE)
    pieces = (body[i : i + 100_000] for i in range(0, len(body), 100_000))
    connection.request("POST", PREDICT, pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    expected = x @ np.array([[2.0, 0.0], [1.0, 0.5]], np.float32)
    np.testing.assert_allclose(np.array(answer["predictions"], np.float32), expected, rtol=1e-5, atol=1e-6)


def test_one_connection_serves_many_requests(module_server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", module_server.port, timeout=PATIENCE)
    for number, status in ((1, 200), ("bad", 400), (2, 200)):
        connection.request("POST", PREDICT, json.dumps({"instances": [[number, 0]]}))
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == status
        if status == 200:
            assert answer == {"predictions": [[number * 2.0, 0.0]]}
    connection.close()


def test_answers_are_not_mixed_up(module_server: Server) -> None:
    wrong = []

    def work(first: int) -> None:
        for number in range(first, first + 40):
            answer = module_server.call("POST", PREDICT, {"instances": [[number, number]]})
            if answer != (200, {"predictions": [[number * 3.0, number * 0.5]]}):
                wrong.append(answer)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
