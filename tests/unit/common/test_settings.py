"""tasks.lib.common.settings: invoke.yaml as it is, and every way of getting it wrong."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invoke.config import Config
from invoke.vendor import yaml

from tasks.lib.common import variants
from tasks.lib.common.errors import SettingError
from tasks.lib.common.settings import ENGINES, PRECISIONS, Settings, read
from tasks.lib.common.values import number, port, whole_number

ROOT = Path(__file__).resolve().parents[3]
SHIPPED: dict[str, Any] = yaml.safe_load((ROOT / "invoke.yaml").read_text())

INVOKES_OWN = {"tasks"}
"""Keys of invoke.yaml that Invoke itself reads."""


def changed(path: str, value: object) -> dict[str, Any]:
    """invoke.yaml with another value at a dotted path."""
    config = copy.deepcopy(SHIPPED) | {"run": {"dry": False}}
    *folders, last = path.split(".")
    table = config
    for folder in folders:
        table = table[folder]
    table[last] = value
    return config


def without(path: str) -> dict[str, Any]:
    config = changed(path, None)
    *folders, last = path.split(".")
    table = config
    for folder in folders:
        table = table[folder]
    del table[last]
    return config


def refusal(config: Mapping[str, Any]) -> SettingError:
    with pytest.raises(SettingError) as told:
        read(config, ROOT)
    return told.value


def scalars(table: Mapping[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from scalars(value, *above, name)
        else:
            yield (*above, name), value


# invoke.yaml as it is


def through_invoke() -> Settings:
    config = Config(project_location=str(ROOT))
    config.load_project()
    return read(config, ROOT)


def test_the_file_in_the_repository_is_read_through_invoke() -> None:
    its = through_invoke()
    assert (its.model, its.engine, its.dry) == ("auto", "auto", False)
    assert its.paths.models == ROOT / "models"
    assert its.paths.environment == ROOT / ".state" / "embedded"
    assert its.serve.rest_port == 8501
    assert its.benchmark.plan.ci_width == 0.02
    assert its == read(changed("model", "auto"), ROOT)  # a plain table reads the same


class Watched(dict[str, Any]):
    """A table that notes which of its values were asked for."""

    def __init__(self, table: Mapping[str, Any], asked: set[tuple[str, ...]], *above: str) -> None:
        super().__init__(
            (key, Watched(value, asked, *above, key) if isinstance(value, dict) else value)
            for key, value in table.items()
        )
        self._asked = asked
        self._above = above

    def __getitem__(self, key: str) -> Any:
        self._asked.add((*self._above, key))
        return super().__getitem__(key)


def test_no_setting_is_dead() -> None:
    asked: set[tuple[str, ...]] = set()
    read(Watched(SHIPPED | {"run": {"dry": False}}, asked), ROOT)  # type: ignore[arg-type]
    declared = {path for path, _ in scalars(SHIPPED) if path[0] not in INVOKES_OWN | {"variants"}}
    assert declared <= asked
    assert {path for path in asked if len(path) > 1 and path[0] in SHIPPED} - declared <= {
        ("optimize", "max_difference"),
        *(("variants", name) for name in SHIPPED["variants"]),
    }


def test_every_number_is_quoted_so_that_the_environment_can_be_wrong() -> None:
    """Invoke converts to the type of the default, and answers a word for a number with a traceback."""
    for path, value in scalars(SHIPPED):
        if path[0] not in INVOKES_OWN:
            assert isinstance(value, str), path


def test_every_setting_can_be_set_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone, with a value that is wrong or at least another: the setting it names has to answer."""
    for path, value in scalars(SHIPPED):
        if path[0] in INVOKES_OWN | {"variants"}:
            continue
        name = "INVOKE_" + "_".join(path).upper()
        with monkeypatch.context() as patched:
            patched.setenv(name, " ")
            config = Config(project_location=str(ROOT))
            config.load_project()
            config.load_shell_env()
            with pytest.raises(SettingError) as told:
                read(config, ROOT)
        assert f"The setting {'.'.join(path)} (or {name})" in told.value.problem, value


def test_variants_precisions_and_engines_agree() -> None:
    its = through_invoke()
    assert set(SHIPPED["optimize"]["max_difference"]) == set(PRECISIONS) == set(its.optimize.max_difference)
    assert its.optimize.precision in ("auto", *PRECISIONS)
    assert its.engine in ENGINES
    assert {its.benchmark.baseline, its.benchmark.candidate} <= set(its.variants)
    for name, table in its.variants.items():
        variants.check(its, name)
        for engine in table:
            variant = variants.find(its, name, engine)
            assert variant.precision in ("auto", *PRECISIONS)
            assert variant.backend in variants.BACKENDS
            assert (variant.container is not None) is (engine == "docker")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        through_invoke().serve.rest_port = 1  # type: ignore[misc]


def test_dry_is_invokes_own_flag() -> None:
    assert read(changed("run", {"dry": True}), ROOT).dry is True


# Folders


def test_relative_folders_count_from_the_root_and_absolute_ones_from_nowhere(tmp_path: Path) -> None:
    assert read(changed("paths.models", "elsewhere/models"), ROOT).paths.models == ROOT / "elsewhere/models"
    assert read(changed("paths.models", str(tmp_path)), ROOT).paths.models == tmp_path


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(changed("paths.models", "~/models"), ROOT).paths.models == tmp_path / "models"
    told = refusal(changed("paths.models", "~no-user-of-this-name/models"))
    assert "INVOKE_PATHS_MODELS" in told.problem


def test_folders_are_shown_as_typed_at_the_root(tmp_path: Path) -> None:
    paths = through_invoke().paths
    assert paths.shown(ROOT / "models" / "resnet") == str(Path("models", "resnet"))
    assert paths.shown(tmp_path) == str(tmp_path)


# Wrong values


WHOLE = [
    "download.retries",
    "serve.rest_port",
    "serve.grpc_port",
    "benchmark.block_requests",
    "benchmark.seed",
    "benchmark.instances",
    "build.memory_mb",
    "build.jobs",
    "docker.processes",
]
NUMBERS = [
    "download.timeout",
    "download.pause",
    "serve.ready_timeout",
    "serve.stop_grace",
    "optimize.max_difference.f32",
    "optimize.max_difference.bf16",
    "benchmark.min_seconds",
    "benchmark.max_seconds",
    "benchmark.block_seconds",
    "benchmark.warmup_seconds",
    "benchmark.timeout",
    "build.disk_gb",
    "docker.pull_timeout",
]
SHARES = ["benchmark.ci_width", "benchmark.max_errors"]
TEXTS = [
    "model",
    "engine",
    "paths.models",
    "paths.state",
    "paths.environment",
    "paths.results",
    "serve.host",
    "optimize.precision",
    "benchmark.baseline",
    "benchmark.candidate",
    "docker.image",
    "docker.memory",
    "serve.cpus",
    *(f"build.{key}" for key in SHIPPED["build"] if key not in ("memory_mb", "jobs", "disk_gb")),
]


def test_the_lists_below_are_complete() -> None:
    declared = {".".join(path) for path, _ in scalars(SHIPPED) if path[0] not in INVOKES_OWN | {"variants"}}
    assert declared == {*WHOLE, *NUMBERS, *SHARES, *TEXTS}


WRONG = [
    *(
        (path, value)
        for path in WHOLE
        for value in ("abc", "", " ", "1.5", "-1", "1e3", None, True, [1], {"a": 1})
    ),
    *(
        (path, value)
        for path in NUMBERS
        for value in ("abc", "", "-1", "nan", "inf", "-inf", None, [1], {"a": 1})
    ),
    *(
        (path, value)
        for path in SHARES
        for value in ("abc", "", "%", "-1%", "101%", "2", "nan", "inf", None, [1], {"a": 1})
    ),
    *((path, value) for path in TEXTS for value in ("", "  ", None, ["a"], {"a": "b"})),
    ("serve.rest_port", "0"),
    ("serve.rest_port", "65536"),
    ("benchmark.block_requests", "0"),
    ("benchmark.block_requests", "25"),
    ("download.timeout", "0"),
    ("serve.ready_timeout", "0.5"),
    ("benchmark.timeout", "0"),
    ("engine", "podman"),
    ("engine", "Local"),
    ("optimize.precision", "int4"),
    ("serve.rest_port", "9" * 5000),
    ("docker.processes", "0"),
    ("docker.memory", "0"),
    ("docker.memory", "0g"),
    ("docker.memory", "much"),
    ("docker.memory", "-1g"),
    ("serve.cpus", "all"),
    ("serve.cpus", "0-"),
    ("serve.cpus", "3-0"),
    ("serve.cpus", "0-99999999999"),
    ("docker.pull_timeout", "0.5"),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=lambda part: str(part)[:30])
def test_a_wrong_value_is_told_with_its_names(path: str, value: object) -> None:
    told = refusal(changed(path, value))
    assert told.problem.startswith(f"The setting {path} (or INVOKE_{path.replace('.', '_').upper()}) ")
    assert told.problem.endswith(".")
    assert told.remedy.endswith(".")
    assert "The setting" not in told.remedy
    assert told.exit_code == 1


@pytest.mark.parametrize("path", [*WHOLE, *NUMBERS, *TEXTS, "variants", "serve", "optimize.max_difference"])
def test_a_missing_setting_is_told(path: str) -> None:
    told = refusal(without(path))
    assert f"The setting {path}" in told.problem
    assert "is missing" in told.problem


@pytest.mark.parametrize(
    "path", ["paths", "download", "serve", "optimize", "optimize.max_difference", "benchmark"]
)
@pytest.mark.parametrize("value", ["text", None, ["a"], 7])
def test_a_value_where_a_table_belongs_is_told(path: str, value: object) -> None:
    told = refusal(changed(path, value))
    assert told.problem.startswith(f"The setting {path} ")
    assert "must be a table of settings" in told.problem


@pytest.mark.parametrize(
    ("value", "name"),
    [("text", "variants"), (None, "variants"), (["stock"], "variants"), ({"mine": None}, "variants.mine")],
)
def test_variants_that_are_no_table_are_told(value: object, name: str) -> None:
    told = refusal(changed("variants", value))
    assert told.problem.startswith(f"The setting {name} ")


def test_limits_are_said() -> None:
    assert "between 1 and 65535" in refusal(changed("serve.rest_port", "65536")).remedy
    assert "2% or 0.02" in refusal(changed("benchmark.ci_width", "2")).remedy
    assert "at least 0.1" in refusal(changed("benchmark.timeout", "0")).remedy
    assert "auto, local" in refusal(changed("engine", "podman")).problem
    assert "even" in refusal(changed("benchmark.block_requests", "25")).problem


@pytest.mark.parametrize(
    ("text", "size"),
    [("auto", None), ("4g", 4 << 30), ("512M", 512 << 20), ("4 GiB", 4 << 30), ("2kb", 2048), ("1000", 1000)],
)
def test_sizes(text: str, size: int | None) -> None:
    assert read(changed("docker.memory", text), ROOT).docker.memory == size


@pytest.mark.parametrize(("text", "cpus"), [("auto", ()), ("0", (0,)), ("6,0-3,2", (0, 1, 2, 3, 6))])
def test_cpus(text: str, cpus: tuple[int, ...]) -> None:
    assert read(changed("serve.cpus", text), ROOT).serve.cpus == cpus


# Numbers of settings and flags


@given(st.integers(-(10**18), 10**18))
def test_whole_numbers_are_read_as_they_are_printed(value: int) -> None:
    assert whole_number(str(value), "--n", minimum=-(10**18)) == value
    assert whole_number(f" {value} ", "--n", minimum=-(10**18)) == value


@given(st.floats(0, allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_they_are_printed(value: float) -> None:
    assert number(repr(value), "--n") == value


@given(st.text(max_size=6))
def test_any_text_is_a_number_or_told(text: str) -> None:
    for reader in (whole_number, number, port):
        try:
            value = reader(text, "--n")
        except SettingError:
            continue
        assert value >= 0
        assert math.isfinite(value)


def test_a_port_is_one_that_a_server_can_be_given() -> None:
    assert (port("1"), port("65535")) == (1, 65535)
    for wrong in ("0", "65536", "abc", ""):
        with pytest.raises(SettingError, match="--port"):
            port(wrong)
