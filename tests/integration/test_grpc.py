"""gRPC as the runner speaks it: against TensorFlow Serving's own messages, and the embedded server."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.client import tensor_messages
from tasks.lib.client.grpc import GrpcClient, metadata_of
from tasks.lib.client.inputs import NUMPY_NAMES, requests_for
from tasks.lib.client.rest import Client
from tasks.lib.client.serving_messages import message
from tasks.lib.client.signature import Tensor
from tests.integration.conftest import ROOT, Suite

VALUES: dict[str, Any] = {
    "DT_STRING": ["a", "zwölf", ""],
    "DT_BOOL": [True, False, True],
    "DT_FLOAT": [0.1, -1e30, 3.0],
    "DT_DOUBLE": [0.1, 1e300, -0.0],
    "DT_HALF": [0.5, -65504.0, 3.0],
    # 1 and a bit more: the nearest of 8 bits, of two as near the even one
    "DT_BFLOAT16": [1.0 + 2**-8, 1.0 + 3 * 2**-8, math.inf],
}
ROUNDED = {"DT_BFLOAT16": [1.0, 1.0 + 2**-6, math.inf]}
"""What the values become where the type does not hold them."""


def values(dtype: str) -> list[Any]:
    return VALUES.get(dtype, [1, 0, 100])


@pytest.fixture(scope="module")
def tensorflows(embedded_python: Path) -> dict[str, Any]:
    """What TensorFlow makes of one request for each type."""
    requests = []
    for dtype in ("DT_STRING", *NUMPY_NAMES):
        request = message("PredictRequest")
        spec = request.model_spec
        spec.name, spec.version.value, spec.signature_name = "net", 7, "serving_default"
        tensor = tensor_messages.encode(Tensor("x", dtype, (None, 3)), [values(dtype)] * 2)
        request.inputs.add(key="x").value.CopyFrom(tensor)
        requests.append(base64.b64encode(request.SerializeToString()).decode())
    done = subprocess.run(
        [embedded_python, ROOT / "tests" / "integration" / "tensorflow_messages.py"],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    made: dict[str, Any] = json.loads(done.stdout)
    return {**made, "read": dict(zip(("DT_STRING", *NUMPY_NAMES), made["read"], strict=True))}


@pytest.mark.parametrize("dtype", ["DT_STRING", *NUMPY_NAMES])
def test_tensorflow_reads_what_was_meant_and_is_read(tensorflows: dict[str, Any], dtype: str) -> None:
    read = tensorflows["read"][dtype]
    assert read["spec"] == {"name": "net", "version": "7", "signatureName": "serving_default"}
    names = {"DT_HALF": "float16", "DT_FLOAT": "float32", "DT_DOUBLE": "float64"}
    assert (read["name"], read["dtype"]) == ("x", names.get(dtype, dtype.removeprefix("DT_").lower()))
    assert read["shape"] == [2, 3]
    expected = [ROUNDED.get(dtype, values(dtype))] * 2
    if dtype == "DT_STRING":
        assert read["values"] == expected[0] * 2
    else:
        assert [pytest.approx(row, rel=1e-7) for row in expected] == read["values"]
    outputs = message("PredictResponse", base64.b64decode(read["answer"])).outputs
    assert {one.key for one in outputs} == {"values", "content"}
    for one in outputs:
        decoded = tensor_messages.decode(one.value, one.key)
        assert [pytest.approx(row, rel=1e-7) if dtype != "DT_STRING" else row for row in expected] == decoded


def test_tensorflows_metadata_is_told_as_rest_tells_it(tensorflows: dict[str, Any]) -> None:
    made, said = (tensorflows["metadata"][name] for name in ("answer", "says"))
    told = metadata_of(message("GetModelMetadataResponse", base64.b64decode(made)))
    assert told["model_spec"] == {"name": "net", "signature_name": "", "version": "1538687457"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == said["methodName"]
    for side in ("inputs", "outputs"):
        for name, tensor in signature[side].items():
            theirs = said[side][name]
            assert tensor["dtype"] == theirs["dtype"]
            sizes = [dim["size"] for dim in theirs["tensorShape"]["dim"]]
            assert [dim["size"] for dim in tensor["tensor_shape"]["dim"]] == sizes
            assert tensor["tensor_shape"]["unknown_rank"] == theirs["tensorShape"]["unknownRank"]
        assert signature[side].keys() == said[side].keys()


# The embedded server


@pytest.fixture(scope="module")
def addresses(small: Suite) -> Iterator[tuple[str, str]]:
    """The REST and the gRPC address of a model that takes photos."""
    suite = small.with_environment(INVOKE_MODEL="tf1")
    done = suite.run("serve")
    grpc = next(line for line in done.stderr.splitlines() if "grpc://" in line).split()[-1]
    yield done.stdout.splitlines()[0], grpc
    suite.run("teardown")


def test_both_protocols_answer_the_same(addresses: tuple[str, str]) -> None:
    rest, grpc = Client(addresses[0]), GrpcClient(addresses[1])
    theirs, ours = rest.metadata()["metadata"], grpc.metadata()["metadata"]
    described = theirs["signature_def"]["signature_def"]["serving_default"]
    assert described["inputs"].keys() == (
        ours["signature_def"]["signature_def"]["serving_default"]["inputs"].keys()
    )
    (sample,) = requests_for(grpc.metadata(), [ROOT / "models" / "samples" / "cat.jpg"])
    (a,), (b,) = (one.predict(sample.body)["predictions"] for one in (rest, grpc))
    assert a["classes"] == b["classes"]
    assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-6)


def test_two_variants_over_grpc(tf1: Suite) -> None:
    done = tf1.run("benchmark", "--protocol", "grpc", "--connections", "2", "--format", "json")
    content = json.loads(done.stdout)
    assert content["plan"]["protocol"] == "grpc"
    ((verdict, sentence),) = ((run["verdict"], run["sentence"]) for run in content["runs"])
    assert "over 2 gRPC connections" in sentence
    assert verdict["agreement"]["same"] == 12
    for side in (verdict["baseline"], verdict["candidate"]):
        assert side["urls"][0].startswith("grpc://")
        assert side["measured"]["errors"] == 0


def test_rest_against_grpc_of_one_server(tf1: Suite, addresses: tuple[str, str]) -> None:
    rest, grpc = addresses
    done = tf1.run("benchmark", "--baseline", rest, "--candidate", grpc, "--format", "json")
    content = json.loads(done.stdout)
    assert content["plan"]["protocol"] == "rest and grpc"
    (run,) = content["runs"]
    assert run["verdict"]["agreement"]["percent"] == "100%"
    assert [run["verdict"][side]["urls"] for side in ("baseline", "candidate")] == [[rest], [grpc]]


def test_what_has_no_grpc_is_told_in_a_sentence(tf1: Suite, addresses: tuple[str, str]) -> None:
    rest, _ = addresses
    wrong = rest.replace("http://", "grpc://")
    done = tf1.run("benchmark", "--alone", "--candidate", wrong, code=1)
    assert "does not speak gRPC" in done.stderr
    assert "is not asked over grpc" in tf1.run(
        "benchmark", "--protocol", "grpc", "--candidate", rest, code=1
    ).stderr  # fmt: skip
    assert "There is no protocol" in tf1.run("benchmark", "--protocol", "carrier-pigeon", code=1).stderr
