"""tasks.lib.optimize.against_stock: candidates asked and timed on servers (threads of the test)."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.client import inputs
from tasks.lib.client.inputs import Given, Sample, given_at
from tasks.lib.client.signature import Signature
from tasks.lib.common.errors import ModelError, RequestRefused, ServerError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.engines.base import Server
from tasks.lib.measure import stats
from tasks.lib.measure.verdict import FEWEST
from tasks.lib.models.artefact import Program
from tasks.lib.models.samples import Samples
from tasks.lib.optimize import against_stock
from tasks.lib.optimize.against_stock import Bench
from tasks.lib.optimize.candidates import Candidate, Group, Memory, Proof
from tests.helpers.commandline import ROOT

Answer = Callable[[Any], Any]
"""Instance -> prediction. Raises ValueError to refuse it."""


def tensor(dtype: str, *sizes: int) -> dict[str, Any]:
    return {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(size)} for size in sizes]}}


def described(**inputs: dict[str, Any]) -> dict[str, Any]:
    outputs = {"y": tensor("DT_FLOAT", -1, 2)}
    return {"method_name": "tensorflow/serving/predict", "inputs": inputs, "outputs": outputs}


NUMBERS = tensor("DT_FLOAT", -1, 2)
SIGNATURES = {
    "serving_default": described(x=NUMBERS),
    "other": described(x=NUMBERS, n=tensor("DT_INT64", -1)),
    "whole": described(x=tensor("DT_FLOAT")),
    "ids": described(n=tensor("DT_INT64", -1, 2)),
    "photos": described(image=tensor("DT_STRING", -1)),
}


def doubled(instance: Any) -> Any:
    values = instance["x"] if isinstance(instance, dict) else instance
    return [2.0 * value for value in values] if isinstance(values[0], (int, float)) else [1.0, 2.0]


def refused(instance: Any) -> Any:
    raise ValueError("no such row.")


@dataclass
class Model:
    """A server of SIGNATURES that answers after `seconds`."""

    answer: Answer = doubled
    seconds: float = 0.0
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    def start(self, stack: ExitStack) -> Server:
        http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": self}))
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        stack.callback(lambda: (http.shutdown(), thread.join(), http.server_close()))
        variant = Variant("net", "tensorflow", "f32")
        return Server("id", "local", "net", 1, variant, "127.0.0.1", http.server_port, "now", "made of")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model: Model

    def do_GET(self) -> None:
        self._say(200, {"metadata": {"signature_def": {"signature_def": SIGNATURES}}})

    def do_POST(self) -> None:
        arrived = time.perf_counter()
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.model.asked.append(request)
        try:
            status, content = 200, {"predictions": [self.model.answer(one) for one in request["instances"]]}
        except ValueError as error:
            status, content = 400, {"error": str(error)}
        time.sleep(max(0.0, arrived + self.model.seconds - time.perf_counter()))
        self._say(status, content)

    def _say(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.wfile.write(b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Made(Samples):
    """Requests as metadata lets one make them up."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.paths.root, (), {}, is_edited=False)
        object.__setattr__(self, "photos", inputs.sample_photos(settings.paths))

    def of(self, signature: Signature) -> list[Sample]:
        return inputs.requests_of(signature, self.__dict__["photos"])


class Engine:
    """Only tells how much memory a server takes: more each time."""

    def __init__(self) -> None:
        self.sizes = iter(range(1, 10))

    def memory(self, server: Server) -> int:
        return next(self.sizes)


@pytest.fixture
def bench(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    monkeypatch.setattr(against_stock, "WARMUP_SECONDS", 0.0)
    monkeypatch.setattr(against_stock, "MEASURED_SECONDS", 0.6)
    monkeypatch.setattr(against_stock, "FIRST_SECONDS", 0.3)
    with ExitStack() as stack:

        def start(stock: Model, given: Given | None = None, **optimized: Model) -> Bench:
            servers = {precision: model.start(stack) for precision, model in optimized.items()}
            engine: Any = Engine()
            return Bench(settings, engine, stock.start(stack), servers, given, Made(settings))

        yield start


def candidate(name: str = "serving_default", precision: str = "f32", *twins: str) -> Candidate:
    group = Group((name, *twins), Program(1.0, 1, name))
    return Candidate(group, precision, 0.01, Proof(3, 0.0, None))


def only(bench: Bench, *candidates: Candidate) -> against_stock.Observed:
    (seen,) = bench.observed([candidates])
    return seen


Start = Callable[..., Bench]


def test_answers_and_speed(bench: Start) -> None:
    stock, fast, faster = Model(seconds=0.004), Model(seconds=0.002), Model(seconds=0.001)
    seen = only(bench(stock, f32=fast, bf16=faster), candidate(), candidate(precision="bf16"))
    f32, bf16 = seen.candidates
    assert seen.stock_p50 is not None
    for one in (f32, bf16):
        assert one.refused is None
        assert one.agreement is not None
        assert one.agreement.inputs == len(list((ROOT / "models/samples").glob("*.jpg")))
        assert one.speed is not None
        assert one.speed.interval.ratio > 0
        assert one.p50 is not None
        assert one.p50 > 0
    # Both labels of stock, and of each precision, are sent the same requests.
    assert len(stock.asked) == len(fast.asked) == len(faster.asked)


def test_another_answer_is_refused_and_not_timed(bench: Start) -> None:
    wrong = Model(lambda instance: [value + 1 for value in doubled(instance)])
    seen = only(bench(Model(), f32=Model(), bf16=wrong), candidate(), candidate(precision="bf16"))
    f32, bf16 = seen.candidates
    assert f32.p50 is not None
    assert bf16.refused is not None
    assert bf16.refused.startswith("'y' differs by 1, and ")
    assert (bf16.p50, bf16.speed) == (None, None)
    assert bf16.needs_higher_limit


def test_a_request_that_only_stock_answers(bench: Start) -> None:
    (one,) = only(bench(Model(), f32=Model(refused)), candidate()).candidates
    assert one.refused == "it refuses a request that stock answers (no such row)"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("whole", doubled),  # no request can be made up
        ("serving_default", refused),  # the model does not take what was made up
    ],
)
def test_the_proof_alone_decides(bench: Start, name: str, answer: Answer) -> None:
    seen = only(bench(Model(answer), f32=Model(answer)), candidate(name))
    (one,) = seen.candidates
    assert one.refused is None
    assert (one.agreement, one.p50, seen.stock_p50) == (None, None, None)


def test_answers_that_are_not_rows_are_left_to_the_proof(
    bench: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = {**SIGNATURES["serving_default"], "outputs": {"y": NUMBERS, "z": NUMBERS}}
    monkeypatch.setitem(SIGNATURES, "serving_default", two)
    (one,) = only(bench(Model(), f32=Model()), candidate()).candidates
    assert (one.refused, one.agreement) == (None, None)


def test_a_server_that_is_gone_is_an_error(bench: Start) -> None:
    started = bench(Model(), f32=Model())
    with ExitStack() as stack:
        gone = Model().start(stack)
    with pytest.raises(ServerError, match="does not answer"):
        only(replace(started, stock=gone), candidate())


def test_a_request_that_no_one_answers_is_left_out(bench: Start) -> None:
    asked = 0

    def sometimes(instance: Any) -> Any:
        nonlocal asked
        asked += 1
        return refused(instance) if asked == 2 else doubled(instance)

    (one,) = only(bench(Model(sometimes), f32=Model()), candidate()).candidates
    assert one.agreement is not None
    assert one.agreement.inputs == len(list((ROOT / "models/samples").glob("*.jpg"))) - 1


def test_the_first_signature_is_timed_however_long_it_takes(
    bench: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against_stock, "MEASURED_SECONDS", 0.01)
    stock, optimized = Model(seconds=0.002), Model(seconds=0.001)
    first, second = bench(stock, f32=optimized).observed([[candidate()], [candidate("other")]])
    (one,) = first.candidates
    assert one.speed is not None
    (left,) = second.candidates
    assert left.agreement is not None
    assert (left.speed, second.stock_p50) == (None, None)
    default = [request for request in stock.asked if "signature_name" not in request]
    # One request for each label in each half of a round, after a warm-up of one block to each.
    samples = len(list((ROOT / "models/samples").glob("*.jpg")))
    assert len(default) - samples - 1 == 2 * 2 * FEWEST


def test_every_signature_has_its_share_of_the_time(bench: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against_stock, "MEASURED_SECONDS", 1.5)
    groups = [[candidate()], [candidate("other")], [candidate("ids")]]
    seen = bench(Model(), f32=Model()).observed(groups)
    assert all(one.candidates[0].speed is not None for one in seen)


def write(folder: Path, **files: str) -> Given:
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    return given_at(folder)


def test_own_requests_replace_the_made_up_ones(bench: Start, tmp_path: Path) -> None:
    lines = '{"instances": [[7.0, 8.0]]}\n{"signature_name": "twin", "instances": [[9.0, 8.0]]}\n'
    given = write(tmp_path, own=lines)
    stock = Model()
    (one,) = only(bench(stock, given, f32=Model()), candidate("serving_default", "f32", "twin")).candidates
    assert one.agreement is not None
    assert one.agreement.inputs == 2
    assert {request["instances"][0][0] for request in stock.asked} == {7.0, 9.0}


def test_own_requests_are_for_the_signatures_that_they_name(bench: Start, tmp_path: Path) -> None:
    given = write(tmp_path, own='{"signature_name": "other", "instances": [{"x": [7.0, 8.0], "n": 3}]}\n')
    first, second = bench(Model(), given, f32=Model()).observed([[candidate()], [candidate("other")]])
    assert [one.candidates[0].agreement.inputs for one in (first, second) if one.candidates[0].agreement] == [
        len(list((ROOT / "models/samples").glob("*.jpg"))), 1
    ]  # fmt: skip


def test_own_requests_that_stock_refuses(bench: Start, tmp_path: Path) -> None:
    given = write(tmp_path, own='{"instances": [[7.0, 8.0]]}\n')
    with pytest.raises(RequestRefused, match=r"HTTP 400: no such row"):
        only(bench(Model(refused), given, f32=Model()), candidate())


def test_photos_for_a_model_that_takes_none(bench: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    given = given_at(ROOT / "models/samples")
    monkeypatch.delitem(SIGNATURES, "photos")
    with pytest.raises(ModelError, match="takes no photos"):
        only(bench(Model(), given, f32=Model()), candidate())


def test_memory_with_tensorflow_is_asked_for_with_nan(bench: Start) -> None:
    model = Model()
    groups = [candidate(name).group for name in ("ids", "other")]
    assert bench(Model(), f32=model).memory("f32", groups) == Memory(1, 2, 3)
    (request,) = model.asked
    assert request["signature_name"] == "other"
    (instance,) = request["instances"]
    assert all(map(math.isnan, instance["x"]))
    assert isinstance(instance["n"], int)


def test_memory_is_known_where_stock_would_refuse_too(bench: Start) -> None:
    assert bench(Model(), f32=Model(refused)).memory("f32", [candidate().group]) == Memory(1, 2, 3)


def test_memory_without_a_float_input(bench: Start) -> None:
    model = Model()
    assert bench(Model(), f32=model).memory("f32", [candidate("ids").group]) == Memory(1, 2, None)
    assert model.asked == []


def test_rounds_go_on_until_both_are_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    enough = against_stock._Enough(["f32", "bf16"], 60)
    wide = stats.Interval(2.0, 1.9, 2.1)
    narrow = stats.Interval(2.0, 1.98, 2.02)
    seen = {"f32": narrow, "bf16": wide}
    monkeypatch.setattr(against_stock, "_as_pair", lambda rounds, precision: precision)
    monkeypatch.setattr(
        against_stock.verdict, "at_p50", lambda precision: against_stock.Comparison(seen[precision], 0.01)
    )
    rounds: list[Any] = [{}] * FEWEST
    assert not enough(rounds[:-1])
    assert not enough(rounds)
    seen["bf16"] = narrow
    assert enough(rounds)
    assert not enough(rounds[:-1])
    assert against_stock._Enough(["bf16"], 0)(rounds)
