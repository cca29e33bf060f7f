"""What the server counts, and how Prometheus reads it.

Names, labels, buckets and the page are TensorFlow Serving's (servables/tensorflow/util.cc,
saved_model_warmup_util.cc, util/prometheus_exporter.cc; tensorflow/cc/saved_model/loader.cc), colons and
microseconds included, so that dashboards made for it go on working. Of TensorFlow's own metrics, which
its exporter publishes too, those of loading are there.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence

_MAX_COMBINATIONS = 1000  # of labels: clients make up the names of models, and memory must not grow for it

_Labels = tuple[str, ...]


def _exponential(first: float, factor: float, count: int) -> list[float]:
    """Upper limits of buckets; what is larger than the last one goes into one more."""
    limits = [first]
    while len(limits) < count:
        limits.append(limits[-1] * factor)
    return limits


_LATENCIES = _exponential(10, 1.8, 33)  # microseconds: up to some 20 minutes
_EXAMPLES = _exponential(1, 2, 15)


class Counter:
    """A number for each combination of labels, that only grows."""

    def __init__(self, name: str, *labels: str) -> None:
        self.name = name
        self._labels = labels
        self._lock = threading.Lock()
        self._values: dict[_Labels, int] = {}

    def add(self, labels: _Labels, amount: int = 1) -> None:
        """Count, under these values of the labels."""
        with self._lock:
            labels = _bounded(labels, self._values)
            self._values[labels] = self._values.get(labels, 0) + amount

    def total(self) -> int:
        """The sum over all labels."""
        with self._lock:
            return sum(self._values.values())

    def lines(self) -> Iterator[str]:
        """As Prometheus reads it."""
        yield f"# TYPE {self.name} counter"
        with self._lock:
            values = sorted(self._values.items())
        for labels, value in values:
            yield f"{self.name}{{{_written(self._labels, labels)}}} {value}"


class Histogram:
    """A distribution for each combination of labels."""

    def __init__(self, name: str, limits: Sequence[float], *labels: str) -> None:
        self.name = name
        self._limits = limits
        self._labels = labels
        self._lock = threading.Lock()
        self._buckets: dict[_Labels, list[int]] = {}
        self._sums: dict[_Labels, float] = {}

    def add(self, labels: _Labels, value: float) -> None:
        """Count one value, under these values of the labels."""
        bucket = bisect_right(self._limits, value)
        with self._lock:
            labels = _bounded(labels, self._buckets)
            if labels not in self._buckets:
                self._buckets[labels], self._sums[labels] = [0] * (len(self._limits) + 1), 0.0
            self._buckets[labels][bucket] += 1
            self._sums[labels] += value

    def lines(self) -> Iterator[str]:
        """As Prometheus reads it."""
        yield f"# TYPE {self.name} histogram"
        with self._lock:
            values = [(labels, list(self._buckets[labels]), self._sums[labels]) for labels in self._buckets]
        limits = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
        for labels, buckets, total in sorted(values):
            written, count = _written(self._labels, labels), 0
            for limit, inside in zip(limits, buckets, strict=True):
                count += inside
                yield f'{self.name}_bucket{{{written},le="{limit}"}} {count}'
            yield f"{self.name}_sum{{{written}}} {total:.12g}"
            yield f"{self.name}_count{{{written}}} {count}"


class Metrics:
    """All that one server counts. Times are given in seconds; Prometheus gets microseconds."""

    def __init__(self) -> None:
        self._load_attempts = Counter(":tensorflow:cc:saved_model:load_attempt_count", "model_path", "status")
        self._load_latency = Counter(":tensorflow:cc:saved_model:load_latency", "model_path")
        self._warmup_latency = Histogram(
            ":tensorflow:serving:model_warmup_latency", _LATENCIES, "model_path", "status"
        )
        self._requests = Counter(":tensorflow:serving:request_count", "model_name", "status")
        self._example_total = Counter(":tensorflow:serving:request_example_count_total", "model")
        self._examples = Histogram(":tensorflow:serving:request_example_counts", _EXAMPLES, "model")
        self._request_latency = Histogram(
            ":tensorflow:serving:request_latency", _LATENCIES, "model_name", "API", "entrypoint"
        )
        self._runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency", _LATENCIES, "model_name", "API", "runtime"
        )

        self._handed_over = Counter(
            ":embedded:optimized:requests_executed_by_tensorflow", "model_name", "signature", "reason"
        )

    def handed_over(self, model: str, signature: str, reason: str) -> None:
        """TensorFlow executes a request to an optimized signature (ours; not in TensorFlow Serving)."""
        self._handed_over.add((model, signature, reason))

    def loaded(self, path: str, seconds: float, good: bool) -> None:
        """A SavedModel was loaded, or could not be."""
        self._load_attempts.add((path, "success" if good else "fail"))
        if good:
            self._load_latency.add((path,), round(seconds * 1e6))

    def warmed_up(self, path: str, seconds: float, status: str) -> None:
        """A model was warmed up; `status` is gRPC's code ("OK")."""
        self._warmup_latency.add((path, status), seconds * 1e6)

    def answered(self, model: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """A request was answered; entrypoint is REST or GRPC, `status` gRPC's code."""
        if status == "OK":
            self._request_latency.add((model, api, entrypoint), seconds * 1e6)
        self._requests.add((model, status))

    def executed(self, model: str, api: str, runtime: str, seconds: float) -> None:
        """A model was executed for a request; `runtime` is what executed it."""
        self._runtime_latency.add((model, api, runtime), seconds * 1e6)

    def examples(self, model: str, count: int) -> None:
        """A request had so many tf.Examples."""
        self._examples.add((model,), count)
        self._example_total.add((model,), count)

    def total(self, name: str) -> int:
        """What a counter has reached, over all labels; 0 for anything else.

        name: as Prometheus has it, or with the slashes of TensorFlow's own names.
        """
        counters = [metric for metric in self._all if isinstance(metric, Counter)]
        return sum(counter.total() for counter in counters if counter.name == name.replace("/", ":"))

    def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return "".join(f"{line}\n" for metric in self._all for line in metric.lines()).encode()

    @property
    def _all(self) -> list[Counter | Histogram]:
        return [
            self._load_attempts,
            self._load_latency,
            self._warmup_latency,
            self._requests,
            self._example_total,
            self._examples,
            self._request_latency,
            self._runtime_latency,
            self._handed_over,
        ]


def _bounded(labels: _Labels, known: Collection[_Labels]) -> _Labels:
    """The labels to count under: beyond a number of them, the first one becomes empty."""
    return labels if labels in known or len(known) < _MAX_COMBINATIONS else ("", *labels[1:])


def _written(names: Sequence[str], values: _Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    """A label's value; a name that a client made up may hold anything."""
    escaped = re.sub(r'([\\"])', r"\\\1", value).replace("\n", r"\n")
    return escaped.encode(errors="backslashreplace").decode()
