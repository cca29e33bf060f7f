"""invoke.yaml, the environment and Invoke's flags, read once and checked.

Everything arrives as text (see the head of invoke.yaml); a value that cannot be used is answered
with a sentence that names the setting and the environment variable that may have set it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tasks.lib.common import pinning
from tasks.lib.common.errors import SettingError
from tasks.lib.common.pinning import CPUs
from tasks.lib.common.values import number, share, whole_number


@dataclass(frozen=True)
class Paths:
    """Absolute folders. `root` is the project's own."""

    root: Path
    models: Path
    state: Path
    environment: Path
    results: Path

    def shown(self, path: Path) -> str:
        """`path` as a person at the project's root would type it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


@dataclass(frozen=True)
class Download:
    timeout: float
    """Seconds without a byte before a connection counts as broken."""
    retries: int
    """Further attempts after a broken or refused one, counted again from zero whenever bytes have arrived."""
    pause: float
    """Seconds before the first further attempt; each one after it waits about twice as long."""


@dataclass(frozen=True)
class Serve:
    host: str
    rest_port: int
    grpc_port: int
    ready_timeout: float
    """Seconds."""
    stop_grace: float
    """Seconds between SIGTERM and SIGKILL."""
    cpus: CPUs
    """Those that servers run on; empty: those of this command, or what is best for a benchmark."""


@dataclass(frozen=True)
class Docker:
    image: str
    """The published TensorFlow Serving image."""
    memory: int | None
    """Bytes that one server may take; None where the machine decides."""
    processes: int
    """Processes and threads that one server may have."""
    pull_timeout: float
    """Seconds without news before a pull counts as broken."""


@dataclass(frozen=True)
class Optimize:
    precision: str
    max_difference: Mapping[str, float]
    """Largest probability difference from stock that a precision may show, by precision."""


@dataclass(frozen=True)
class Build:
    """How images for Docker are built."""

    user: str
    """The name before the slash; "auto" is the login name."""
    tag: str
    source: str
    options: str
    base_image: str
    serving_base_image: str
    embedded_base_image: str
    bazel_version: str
    bazel_options: str
    memory_mb: int | None
    """None: worked out from what is free."""
    jobs: int | None
    """None: worked out from processors and memory."""
    network: str
    disk_gb: float


REST, GRPC = "rest", "grpc"
PROTOCOLS = (REST, GRPC)
"""What predict requests are sent over."""
MIXED = "rest and grpc"
"""Where one contestant is asked over the one, and another one over the other."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    ci_width: float
    """Measuring ends when the interval of the ratio at p50 is no wider, nor the noise: 0.02 is 2 %."""
    max_seconds: float
    """No round is begun after so long; two are always measured, since an interval needs them."""
    max_errors: float
    """The part of a contestant's requests that may fail before there is no verdict."""
    block_requests: int
    """Requests to each contestant in one half of a round; the control's are half of the baseline's."""
    warmup_seconds: float
    """The warm-up lasts until latency is steady, and about so long at most."""
    seed: int
    timeout: float
    """Seconds before a request counts as failed."""
    connections: int = 1
    """Requests that are in flight at a time; in open loop, that may be."""
    rate: float | None = None
    """Requests per second that arrive whatever the server does (open loop); None for closed loop."""
    protocol: str = REST
    """One of PROTOCOLS, or MIXED."""
    min_seconds: float = 0.0
    """Measuring goes on for so long at least: what lasts for some seconds, such as which CPU a server has,
    would otherwise decide a verdict on fast servers."""
    instances: int = 1
    """Servers that this suite starts are measured in so many processes each, if the memory suffices."""
    block_seconds: float = 1.0
    """Open loop: requests arrive for so long until the queue that they make may empty itself."""

    @property
    def block(self) -> int:
        """Requests to each contestant in one half of a round, an even number.

        In closed loop every connection has block_requests to send. In open loop a few requests would end
        before a slow server's queue is long: as many as arrive in block_seconds, twice, as they are booked
        under two labels.
        """
        if self.rate is None:
            return self.block_requests * self.connections
        return 2 * max(1, math.ceil(self.rate * self.block_seconds))

    @property
    def how(self) -> str:
        """How requests are sent, as the end of a part of a sentence; empty for one after another by REST."""
        grpc = " gRPC" if self.protocol == GRPC else ""
        if self.connections > 1 and self.rate is None:
            return f" over {self.connections}{grpc} connections"
        return (f" over{grpc}" if grpc else "") + (f" at {self.rate:g} requests/s" if self.rate else "")


@dataclass(frozen=True)
class Benchmark:
    baseline: str
    candidate: str
    plan: Plan


@dataclass(frozen=True)
class Settings:
    """Every setting, checked. `variants` is the raw table that tasks.lib.common.variants reads."""

    model: str
    engine: str
    paths: Paths
    download: Download
    serve: Serve
    docker: Docker
    optimize: Optimize
    build: Build
    benchmark: Benchmark
    variants: Mapping[str, Mapping[str, Any]]
    dry: bool = False
    """Invoke's --dry: say what would be done, and do nothing."""


AUTO = "auto"
"""Of the model: the first of the catalogue whose weights can be had (tasks.lib.models.choice)."""
ENGINES = ("auto", "local", "docker")


def check_engine(settings: Settings, asked: str | None) -> str:
    """The engine that a flag asks for, else the setting's. Raises SettingError if there is none such."""
    name = asked or settings.engine
    if name not in ENGINES:
        raise SettingError(f"There is no engine {name!r}.", f"Choose one of: {', '.join(ENGINES)}.")
    return name


PRECISIONS = ("f32", "bf16")


class Table(Protocol):
    """What settings are read from: Invoke's configuration, or a plain dict."""

    def __getitem__(self, key: str, /) -> Any: ...


def read(config: Table, root: Path) -> Settings:
    """Check `config`, the contents of invoke.yaml with the environment laid over it.

    Relative paths count from `root`. Raises SettingError for a value that cannot be used.
    """
    source = _Source(config)
    paths = {
        name: root / source.folder("paths", name) for name in ("models", "state", "environment", "results")
    }
    return Settings(
        model=source.text("model"),
        engine=source.choice(ENGINES, "engine"),
        paths=Paths(root=root, **paths),
        download=Download(
            timeout=source.number("download", "timeout", minimum=0.1),
            retries=source.whole("download", "retries"),
            pause=source.number("download", "pause"),
        ),
        serve=Serve(
            host=source.text("serve", "host"),
            rest_port=source.whole("serve", "rest_port", minimum=1, maximum=65535),
            grpc_port=source.whole("serve", "grpc_port", minimum=1, maximum=65535),
            ready_timeout=source.number("serve", "ready_timeout", minimum=1),
            stop_grace=source.number("serve", "stop_grace"),
            cpus=source.cpus("serve", "cpus"),
        ),
        docker=Docker(
            image=source.text("docker", "image"),
            memory=source.size("docker", "memory"),
            processes=source.whole("docker", "processes", minimum=1),
            pull_timeout=source.number("docker", "pull_timeout", minimum=1),
        ),
        optimize=Optimize(
            precision=source.choice(("auto", *PRECISIONS), "optimize", "precision"),
            max_difference={p: source.number("optimize", "max_difference", p) for p in PRECISIONS},
        ),
        build=Build(
            user=source.text("build", "user"),
            tag=source.text("build", "tag"),
            source=source.text("build", "source"),
            options=source.text("build", "options"),
            base_image=source.text("build", "base_image"),
            serving_base_image=source.text("build", "serving_base_image"),
            embedded_base_image=source.text("build", "embedded_base_image"),
            bazel_version=source.text("build", "bazel_version"),
            bazel_options=source.text_or_none("build", "bazel_options"),
            memory_mb=source.whole_or_auto("build", "memory_mb", minimum=256),
            jobs=source.whole_or_auto("build", "jobs", minimum=1),
            network=source.text("build", "network"),
            disk_gb=source.number("build", "disk_gb"),
        ),
        benchmark=Benchmark(
            baseline=source.text("benchmark", "baseline"),
            candidate=source.text("benchmark", "candidate"),
            plan=Plan(
                ci_width=source.share("benchmark", "ci_width"),
                max_seconds=source.number("benchmark", "max_seconds"),
                max_errors=source.share("benchmark", "max_errors"),
                block_requests=source.even("benchmark", "block_requests", minimum=2),
                block_seconds=source.number("benchmark", "block_seconds", minimum=0.01),
                warmup_seconds=source.number("benchmark", "warmup_seconds"),
                seed=source.whole("benchmark", "seed"),
                min_seconds=source.number("benchmark", "min_seconds"),
                instances=source.whole("benchmark", "instances", minimum=1),
                timeout=source.number("benchmark", "timeout", minimum=0.1),
            ),
        ),
        variants=source.table("variants"),
        dry=bool(config["run"]["dry"]),
    )


class _Source:
    """Finds a setting by its path of keys and checks it."""

    def __init__(self, config: Table) -> None:
        self._config = config

    def _find(self, keys: tuple[str, ...]) -> Any:
        value: Any = self._config
        for depth, key in enumerate(keys, start=1):
            if depth > 1 and not _is_table(value):
                raise self._wrong(keys[: depth - 1], "must be a table of settings")
            try:
                value = value[key]
            except KeyError:
                raise self._wrong(keys, "is missing") from None
        return value

    @staticmethod
    def _name(keys: tuple[str, ...]) -> str:
        return f"The setting {'.'.join(keys)} (or INVOKE_{'_'.join(keys).upper()})"

    def _wrong(self, keys: tuple[str, ...], what: str) -> SettingError:
        return SettingError(f"{self._name(keys)} {what}.", "Fix it in invoke.yaml or in the environment.")

    def text(self, *keys: str) -> str:
        value = self._find(keys)
        if _is_table(value) or isinstance(value, list):
            raise self._wrong(keys, "must be a single value")
        text = "" if value is None else str(value).strip()
        if not text:
            raise self._wrong(keys, "is empty")
        return text

    def text_or_none(self, *keys: str) -> str:
        """A text; "none" means an empty one."""
        text = self.text(*keys)
        return "" if text == "none" else text

    def folder(self, *keys: str) -> Path:
        try:
            return Path(self.text(*keys)).expanduser()
        except RuntimeError:
            raise self._wrong(keys, "begins with a home folder that does not exist") from None

    def choice(self, choices: tuple[str, ...], *keys: str) -> str:
        value = self.text(*keys)
        if value not in choices:
            raise self._wrong(keys, f"is {value!r}, not one of: {', '.join(choices)}")
        return value

    def whole(self, *keys: str, minimum: int = 0, maximum: int | None = None) -> int:
        return whole_number(self._find(keys), self._name(keys), minimum, maximum)

    def whole_or_auto(self, *keys: str, minimum: int) -> int | None:
        """A whole number; None for "auto"."""
        return None if self.text(*keys) == "auto" else self.whole(*keys, minimum=minimum)

    def even(self, *keys: str, minimum: int) -> int:
        value = self.whole(*keys, minimum=minimum)
        if value % 2:
            raise self._wrong(keys, f"is {value}, and must be an even number")
        return value

    def number(self, *keys: str, minimum: float = 0) -> float:
        return number(self._find(keys), self._name(keys), minimum)

    def share(self, *keys: str) -> float:
        return share(self._find(keys), self._name(keys))

    def size(self, *keys: str) -> int | None:
        """Bytes; None for "auto"."""
        text = self.text(*keys)
        match = re.fullmatch(r"(\d+)\s*([kmgt]?)(?:i?b)?", text.lower())
        if text != "auto" and (match is None or int(match[1]) == 0):
            raise self._wrong(keys, f"is {text!r}, not auto or a size such as 4g or 512m")
        return None if match is None else int(match[1]) * 1024 ** " kmgt".index(match[2] or " ")

    def cpus(self, *keys: str) -> CPUs:
        """A list of CPU numbers and ranges; nothing for "auto"."""
        text = self.text(*keys)
        if text == "auto":
            return ()
        parsed = (
            pinning.parse(text) if re.fullmatch(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*", text) else ()
        )
        if not parsed:
            raise self._wrong(keys, f"is {text!r}, not auto or a list of CPUs such as 0-3,6")
        return parsed

    def table(self, *keys: str) -> Mapping[str, Mapping[str, Any]]:
        value = self._find(keys)
        if not _is_table(value):
            raise self._wrong(keys, "must be a table of settings")
        for name in value:
            if not _is_table(value[name]):
                raise self._wrong((*keys, str(name)), "must be a table of settings")
        return {str(name): dict(value[name]) for name in value}


def _is_table(value: object) -> bool:
    """Whether `value` holds further settings: a dict, or Invoke's stand-in for one."""
    return hasattr(value, "keys")
