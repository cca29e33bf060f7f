"""tasks.lib.client.grpc: single requests, against a real gRPC server (grpcio)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tasks.lib.benchmark import contest
from tasks.lib.benchmark.contest import Contest
from tasks.lib.benchmark.contestants import parse, protocol
from tasks.lib.client import tensor_messages
from tasks.lib.client.grpc import GrpcClient
from tasks.lib.client.serving_messages import message
from tasks.lib.common.errors import ModelError, RequestRefused, ServerError, SettingError
from tasks.lib.common.settings import GRPC, REST
from tasks.lib.measure import verdict
from tasks.lib.measure.agreement import Agreement
from tests.helpers import scripted, standin
from tests.helpers.contestants import HURRY
from tests.helpers.grpc_serving import (
    FLOAT,
    STRING,
    Act,
    GrpcServing,
    keep_silent,
    metadata,
    refuse,
    say,
    serving,
)
from tests.helpers.scripted import free_port


def tensor(shape: tuple[int, ...], **fields: Any) -> Any:
    made = message("Tensor")
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(made, name).extend(value)
        else:
            setattr(made, name, value)
    return made


def response(**outputs: Any) -> bytes:
    made = message("PredictResponse")
    for name, value in outputs.items():
        made.outputs.add(key=name).value.CopyFrom(value)
    return bytes(made.SerializeToString())


def asked(server: GrpcServing) -> Any:
    """The last request."""
    return message("PredictRequest", server.requests[-1])


# What it asks


@pytest.mark.parametrize(
    ("suffix", "version", "label"), [("", 0, ""), ("/versions/12", 12, ""), ("/labels/canary", 0, "canary")]
)
def test_the_address_says_which_model(suffix: str, version: int, label: str) -> None:
    with serving(say(response(y=tensor((1, 1), dtype=FLOAT, float_val=[1.0])))) as server:
        GrpcClient(server.url + suffix).predict(b'{"instances": [[1]]}')
    spec = asked(server).model_spec
    assert (spec.name, spec.version.value, spec.version_label) == ("net", version, label)


def test_several_inputs_are_named_and_several_instances_are_one_batch() -> None:
    described = metadata({"a": FLOAT, "b": STRING}, {"y": FLOAT})
    answer = response(y=tensor((2, 1), dtype=FLOAT, float_val=[1.0, 2.0]))
    with serving(say(answer), metadata=described) as server:
        body = {"instances": [{"a": [1, 2], "b": "x"}, {"a": [3, 4], "b": {"b64": "AAE="}}]}
        answered = GrpcClient(server.url).predict(json.dumps(body).encode())
    assert answered == {"predictions": [[1.0], [2.0]]}
    a, b = (one.value for one in asked(server).inputs)
    assert np.frombuffer(a.tensor_content, np.float32).tolist() == [1, 2, 3, 4]
    assert [dim.size for dim in a.tensor_shape.dim] == [2, 2]
    assert (list(b.string_val), [dim.size for dim in b.tensor_shape.dim]) == ([b"x", b"\0\1"], [2])


def test_the_signature_can_be_named() -> None:
    with serving() as server, pytest.raises(ModelError, match="no signature 'other'"):
        GrpcClient(server.url).request(b'{"signature_name": "other", "instances": [[1]]}')


@pytest.mark.parametrize(
    ("instance", "problem"),
    [
        ([[1], [1, 2]], "do not make a tensor"),
        (["text"], "do not make a tensor"),
        ([{"b64": "?"}], "do not make a tensor"),
    ],
)
def test_values_that_do_not_fit_are_told(instance: object, problem: str) -> None:
    with serving() as server, pytest.raises(ModelError, match=problem):
        GrpcClient(server.url).request(json.dumps({"instances": [instance]}).encode())


def test_inputs_that_must_be_named_and_are_not() -> None:
    described = metadata({"a": FLOAT, "b": FLOAT}, {"y": FLOAT})
    with serving(metadata=described) as server, pytest.raises(ModelError, match="names no inputs"):
        GrpcClient(server.url).request(b'{"instances": [[1]]}')


# What it is answered


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (tensor((1, 3), dtype=1, float_val=[1.5]), [[1.5, 1.5, 1.5]]),
        (tensor((1, 2), dtype=1, tensor_content=np.float32([1, 2]).tobytes()), [[1.0, 2.0]]),
        (tensor((1,), dtype=2, double_val=[0.1]), [0.1]),
        (tensor((2,), dtype=3, int_val=[-1, 2]), [-1, 2]),
        (tensor((2,), dtype=4, int_val=[255, 0]), [255, 0]),
        (tensor((1,), dtype=9, int64_val=[2**40]), [2**40]),
        (tensor((2,), dtype=10, bool_val=[True, False]), [True, False]),
        (tensor((2,), dtype=14, half_val=[0x3FC0, 0xC000]), [1.5, -2.0]),
        (tensor((2,), dtype=19, half_val=[0x3E00, 0xC000]), [1.5, -2.0]),
        (tensor((1,), dtype=23, uint64_val=[2**64 - 1]), [2**64 - 1]),
        (tensor((1, 0), dtype=1), [[]]),
        (tensor((2, 1), dtype=7, string_val=[b"a", b"\xff"]), [["a"], ["\\xff"]]),
        (tensor((2, 0, 3), dtype=7), [[], []]),
    ],
)
def test_answers_of_every_type(made: Any, values: object) -> None:
    assert tensor_messages.decode(made, "y") == values


def test_bytes_are_told_as_rest_tells_them() -> None:
    assert tensor_messages.decode(tensor((1,), dtype=7, string_val=[b"ok"]), "y_bytes") == [{"b64": "b2s="}]


@pytest.mark.parametrize(
    "made",
    [
        tensor((3,), dtype=1, tensor_content=b"1234"),
        tensor((2,), dtype=7, string_val=[b"a"]),
        tensor((1,), dtype=8),
        tensor((1,), dtype=99),
    ],
    ids=["too short", "too few", "complex", "unknown"],
)
def test_what_is_no_whole_tensor_is_told(made: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # numpy's own words among them
        tensor_messages.decode(made, "y")
    with serving(say(response(y=made))) as server, pytest.raises(ServerError, match="one prediction"):
        GrpcClient(server.url).predict(b'{"instances": [[1]]}')


def test_several_outputs_are_named() -> None:
    outputs = {
        "classes": tensor((2,), dtype=9, int64_val=[4, 5]),
        "scores": tensor((2, 2), dtype=1, float_val=[1.0, 0.0, 0.0, 1.0]),
    }
    with serving(say(response(**outputs))) as server:
        answer = GrpcClient(server.url).predict(b'{"instances": [[1], [2]]}')
    assert answer["predictions"] == [
        {"classes": 4, "scores": [1.0, 0.0]},
        {"classes": 5, "scores": [0.0, 1.0]},
    ]


# Failures


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.DATA_LOSS, 500),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(code: grpc.StatusCode, status: int) -> None:
    with serving(refuse(code, "nicht für 100 %")) as server, pytest.raises(RequestRefused) as told:
        GrpcClient(server.url).predict(b'{"instances": [[1]]}')
    assert (told.value.status, told.value.message) == (status, "nicht für 100 %")
    assert code.name in told.value.problem


def test_silence_where_nothing_listens_and_strangers_are_told() -> None:
    with serving(keep_silent) as server, pytest.raises(ServerError, match=r"not within 0\.3 s"):
        GrpcClient(server.url, 0.3).predict(b'{"instances": [[1]]}')
    with pytest.raises(ServerError, match="Connection refused"):
        GrpcClient(f"grpc://127.0.0.1:{free_port()}/v1/models/net").metadata()
    with (
        scripted.serving(finally_=scripted.say(scripted.answer(b"{}", 400))) as http,
        pytest.raises(ServerError, match="does not speak gRPC") as told,
    ):
        GrpcClient(http.url.replace("http", "grpc")).metadata()
    assert "gRPC port" in told.value.remedy


def test_an_answer_in_no_known_message_is_told() -> None:
    with serving(say(b"\xff\xff")) as server, pytest.raises(ServerError, match="as TensorFlow Serving does"):
        GrpcClient(server.url).predict(b'{"instances": [[1]]}')


def test_an_address_of_no_model_is_told() -> None:
    with pytest.raises(ServerError, match="not the address of a model"):
        GrpcClient("grpc://127.0.0.1:8500/net")


# In a benchmark


def echo(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answers what it was given, under another name."""
    (x,) = message("PredictRequest", request).inputs
    return response(y=x.value)


def doubled(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
    (x,) = message("PredictRequest", request).inputs
    x.value.tensor_content = (2 * np.frombuffer(x.value.tensor_content, np.float32)).tobytes()
    return response(y=x.value)


def judged(folder: Path, baseline: str, candidate: str, wanted: str | None = None) -> Any:
    asked = Contest("net", baseline, [candidate], "local", HURRY, wanted)
    [done] = contest.run(standin.settings(folder), asked)
    return done


@pytest.mark.parametrize(("other", "agrees"), [(echo, True), (doubled, False)])
def test_two_addresses_are_compared_over_grpc_alone(tmp_path: Path, other: Act, agrees: bool) -> None:
    with serving(finally_=echo) as one, serving(finally_=other) as two:
        done = judged(tmp_path, one.url, two.url)
    assert done.plan.protocol == GRPC
    agreement: Agreement = done.verdict.agreement
    assert agreement.holds == agrees
    assert done.verdict.baseline.model == "net@7"
    assert bool(done.verdict.measured) == agrees
    if agrees:
        assert done.verdict.measured[verdict.CANDIDATE].errors == 0
        assert "over gRPC" in done.verdict.sentence
        assert f"grpc://127.0.0.1:{two.port}/net is" in done.verdict.sentence or "whether grpc://" in (
            done.verdict.sentence
        )


def test_what_servers_of_the_suite_are_asked_over() -> None:
    rest, grpc_, stock = (
        parse("http://h/v1/models/net"), parse("grpc://h/v1/models/net"), parse("stock")
    )  # fmt: skip
    assert protocol([stock, stock], None) == REST
    assert protocol([stock, grpc_], None) == GRPC
    assert protocol([rest, stock, grpc_], None) == REST
    assert protocol([stock, grpc_], GRPC) == GRPC
    for one, wanted in ((rest, GRPC), (grpc_, REST)):
        with pytest.raises(SettingError, match=f"is not asked over {wanted}"):
            protocol([stock, one], wanted)


def test_replicas_are_asked_over_one_protocol() -> None:
    with pytest.raises(SettingError, match="by REST and by gRPC"):
        parse("http://h/v1/models/net,grpc://h/v1/models/net")


def test_a_server_without_grpc_is_told(tmp_path: Path) -> None:
    with (
        serving(finally_=echo) as one,
        scripted.serving(finally_=scripted.say_and_close(b"")) as other,
        pytest.raises(ServerError, match="does not answer over gRPC"),
    ):
        judged(tmp_path, one.url, other.url.replace("http", "grpc"))
