"""The table of requests in contract/, against the real program with both backends."""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contract
import grpc
import numpy as np
import pytest
import saved_models
from contract.case import HALF, MODULE, Grpc, Rest
from contract.texts import NOT_UTF8
from embedded_server import convert
from running import PATIENCE, Server
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from test_half_plus import write

BACKENDS = ("tensorflow", "openvino")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models; half_plus_two has no matrix product, so nothing of it can be optimized."""
    folder = tmp_path_factory.mktemp("contract")
    saved_models.write_module(folder / MODULE / "3")
    convert.convert(folder / MODULE / "3", folder / MODULE / ".optimized" / "3", "")
    write(folder / HALF / "123", 2.0)
    return folder


@pytest.fixture(scope="module", params=BACKENDS)
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    names = [MODULE] if request.param == "openvino" else [MODULE, HALF]
    versions = {MODULE: 3, HALF: 123}
    configs = "\n".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" '
        f'version_labels {{ key: "stable" value: {versions[name]} }} }}'
        for name in names
    )
    file = folder / f"{request.param}.config"
    file.write_text(f"model_config_list {{ {configs} }}")
    flags = ("--allow_version_labels_for_unavailable_models", f"--backend={request.param}")
    precision = ("--precision=f32",) if request.param == "openvino" else ()
    with Server(f"--model_config_file={file}", *flags, *precision) as server:
        server.models = names  # type: ignore[attr-defined]
        yield server


def test_the_table_is_as_large_as_it_says() -> None:
    names = [case.name for case in (*contract.REST, *contract.GRPC)]
    assert len(names) >= 300
    assert len({(type(c).__name__, c.name) for c in (*contract.REST, *contract.GRPC)}) == len(names)
    assert all(case.source for case in (*contract.REST, *contract.GRPC))


@pytest.mark.parametrize("case", contract.REST, ids=lambda case: case.name)
def test_rest(server: Server, case: Rest) -> None:
    if case.model not in server.models:  # type: ignore[attr-defined]
        return
    status, answer = ask(server, case)
    assert status == case.status, answer
    if case.answer is not None:
        single = b"echo_float32" in (case.body or b"")
        assert is_same(as_float32(answer) if single else answer, case.answer), answer
    if case.name in NOT_UTF8:
        sent = (case.body or b"").partition(b'"inputs": "')[2].removesuffix(b'"}')
        assert base64.b64decode(answer["outputs"]["raw_bytes"]["b64"]) == sent + b"\x00\xff"
    if case.message:
        assert re.search("|".join(map(re.escape, case.message.split("|"))), answer["error"]), answer


def ask(server: Server, case: Rest) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request(case.method, case.path, case.body, dict(case.headers))
        response = connection.getresponse()
        # What is no UTF-8 is answered as it came.
        return response.status, json.loads(response.read().decode(errors="surrogateescape"))
    finally:
        connection.close()


def as_float32(value: Any) -> Any:
    """With the floats as what a client reads of a float32: as many digits are written as tell it."""
    if isinstance(value, dict):
        return {key: as_float32(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_float32(one) for one in value]
    return float(np.float32(value)) if isinstance(value, float) else value


def is_same(found: Any, wanted: Any) -> bool:
    """Equal, numbers of one type, and NaN where NaN is expected."""
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(is_same(found[key], wanted[key]) for key in wanted)
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(is_same, found, wanted))
    if isinstance(wanted, float) and math.isnan(wanted):
        return isinstance(found, float) and math.isnan(found)
    return type(found) is type(wanted) and found == wanted


@pytest.mark.parametrize("case", contract.GRPC, ids=lambda case: case.name)
def test_grpc(server: Server, case: Grpc) -> None:
    if case.model not in server.models:  # type: ignore[attr-defined]
        return
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stubs = prediction_service_pb2_grpc.PredictionServiceStub, model_service_pb2_grpc.ModelServiceStub
        call = next(
            getattr(stub(channel), case.method) for stub in stubs if hasattr(stub(channel), case.method)
        )
        if case.code == "OK":
            answer = call(case.request(), timeout=PATIENCE)
            assert case.check(answer), answer
            return
        with pytest.raises(grpc.RpcError) as refused:
            call(case.request(), timeout=PATIENCE)
        assert refused.value.code().name == case.code, refused.value.details()
        assert re.search("|".join(map(re.escape, case.message.split("|"))), refused.value.details())
