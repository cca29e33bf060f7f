"""What is counted, and the page that Prometheus reads."""

from __future__ import annotations

import http.client
import re
from pathlib import Path

import pytest
from embedded_server.common.errors import StartError
from embedded_server.common.metrics import Counter, Histogram, Metrics
from embedded_server.config.monitoring import METRICS_PATH, metrics_path
from running import PATIENCE, Server

CONFIG = 'prometheus_config { enable: %s path: "%s" }'


def page(server: Server, path: str = METRICS_PATH) -> tuple[int, str, str]:
    """Status, content type, and text."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.headers["content-type"], response.read().decode()
    connection.close()
    return answer


def values(text: str) -> dict[str, float]:
    """Each sample by its name and labels. Every line must be one that Prometheus can read."""
    found = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            assert re.fullmatch(r"# TYPE [a-zA-Z_:][a-zA-Z0-9_:]* (counter|histogram)", line)
            continue
        match = re.fullmatch(r'([a-zA-Z_:][\w:]*\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*\}) (\S+)', line)
        assert match, line
        found[match[1]] = float(match[2])
    return found


def test_requests_are_counted_and_timed(module_server: Server) -> None:
    status, content_type, text = page(module_server)
    assert (status, content_type) == (200, "text/plain")
    before = values(text)
    path = "/v1/models/module:predict"
    assert module_server.call("POST", path, {"instances": [[1, 2]]})[0] == 200
    assert module_server.call("POST", path, {"instances": "bad"})[0] == 400
    assert module_server.call("GET", "/v1/models/module")[0] == 200
    after = values(page(module_server)[2])
    labels = 'model_name="module",API="predict",entrypoint="REST"'
    counted = {
        ':tensorflow:serving:request_count{model_name="module",status="OK"}': 1,
        ':tensorflow:serving:request_count{model_name="module",status="INVALID_ARGUMENT"}': 1,
        f":tensorflow:serving:request_latency_count{{{labels}}}": 1,
        f':tensorflow:serving:request_latency_bucket{{{labels},le="+Inf"}}': 1,
        ':tensorflow:serving:runtime_latency_count{model_name="module",API="Predict",runtime="TF1"}': 1,
    }
    for name, count in counted.items():
        assert after[name] - before.get(name, 0) == count, name
    time_spent = f":tensorflow:serving:request_latency_sum{{{labels}}}"
    assert 10 < after[time_spent] - before.get(time_spent, 0) < PATIENCE * 1e6  # microseconds


def test_another_path(models: Path, tmp_path: Path) -> None:
    (tmp_path / "monitoring.config").write_text(CONFIG % ("true", "/metrics"))
    flags = (
        f"--model_base_path={models / 'keras'}",
        f"--monitoring_config_file={tmp_path / 'monitoring.config'}",
    )
    with Server(*flags) as server:
        assert page(server, "/metrics")[0] == 200
        assert page(server)[0] == 404


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (CONFIG % ("true", "/metrics"), "/metrics"),
        (CONFIG % ("false", "/metrics"), None),
        ("prometheus_config { enable: true }", METRICS_PATH),
        ("", None),
    ],
)
def test_what_a_file_says(tmp_path: Path, text: str, path: str | None) -> None:
    (tmp_path / "file").write_text(text)
    assert metrics_path(str(tmp_path / "file")) == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prometheus { }", "is no MonitoringConfig"),
        (CONFIG % ("true", "metrics"), "cannot be the path"),
        (CONFIG % ("true", "/v1/models"), "cannot be the path"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(StartError, match=message):
        metrics_path(str(tmp_path / "file"))
    with pytest.raises(StartError, match="No such file"):
        metrics_path(str(tmp_path / "none"))


def test_buckets_are_those_of_tensorflow_serving() -> None:
    histogram = Histogram("h", [10, 18, 32.4], "model")
    for value in (9.9, 10, 20, 1e9):
        histogram.add(("a",), value)
    assert list(histogram.lines()) == [
        "# TYPE h histogram",
        'h_bucket{model="a",le="10"} 1',
        'h_bucket{model="a",le="18"} 2',
        'h_bucket{model="a",le="32.4"} 3',
        'h_bucket{model="a",le="+Inf"} 4',
        'h_sum{model="a"} 1000000039.9',
        'h_count{model="a"} 4',
    ]
    metrics = Metrics()
    metrics.executed("m", "Predict", "TF1", 1e-3)
    limits = re.findall(r'runtime_latency_bucket.*le="(.*?)"', metrics.page().decode())
    assert limits[:4] == ["10", "18", "32.4", "58.32"]
    assert (len(limits), limits[-1]) == (34, "+Inf")


def test_names_that_clients_make_up_do_no_harm() -> None:
    counter = Counter("c", "model_name", "status")
    for number in range(5000):
        counter.add((f"m{number}", "NOT_FOUND"))
    counter.add(('a"b\\c\nd\ud800', "OK"))
    lines = list(counter.lines())
    assert len(lines) < 1100
    assert sum(int(line.rpartition(" ")[2]) for line in lines[1:]) == 5001
    metrics = Metrics()
    metrics.answered('a"b\\c\nd\ud800', "predict", "REST", "OK", 1)
    assert r'model_name="a\"b\\c\nd\ud800"' in metrics.page().decode()
