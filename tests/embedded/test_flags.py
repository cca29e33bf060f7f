"""The command line: TensorFlow Serving's flags, ours, and the table of both in docs/embedded.md."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from embedded_server.common.errors import StartError
from embedded_server.config.command_line import make_parser
from embedded_server.config.flags import Flags, parse_flags
from embedded_server.config.ignored_flags import IGNORED
from running import PATIENCE, environment

DOCS = Path(__file__).resolve().parents[2] / "docs" / "embedded.md"


def flags(*arguments: str) -> Flags:
    return parse_flags(["--model_base_path=/models/m", *arguments])


def refusal(*arguments: str) -> str:
    with pytest.raises(StartError) as error:
        flags(*arguments)
    return str(error.value)


# -------------------------------------------------------------------------------------- the table


def documented() -> dict[str, tuple[str, str]]:
    """The rows of both tables: flag -> default and meaning."""
    section = DOCS.read_text().partition("## Flags")[2].partition("## Versions")[0]
    rows = re.findall(r"^\| `(--\w+)` \| (.*?) ?\| (.+) \|$", section, re.MULTILINE)
    table = {flag: (default.strip("`"), meaning) for flag, default, meaning in rows}
    assert len(table) == len(rows), "a flag has two rows"
    return table


def test_the_table_lists_the_flags_that_the_parser_takes() -> None:
    assert set(documented()) == set(make_parser().defaults) - {"-h", "--help"}


def test_the_table_names_the_defaults() -> None:
    defaults = make_parser().defaults
    for flag, (written, _) in documented().items():
        default = defaults[flag]
        if default not in (None, ""):
            assert written == str(default).lower(), flag


def test_the_table_says_why_a_flag_is_ignored() -> None:
    table = documented()
    for flag in IGNORED:
        meaning = table[f"--{flag.name}"][1].replace("`", "").partition(" (there: ")[0]
        assert meaning == f"ignored: {flag.why}"
    ignored = {flag for flag, (_, meaning) in table.items() if meaning.startswith("ignored: ")}
    assert len(ignored) == len(IGNORED)


# The flags of tensorflow_serving/model_servers/main.cc, as a public copy of April 2025 has them, and their
# defaults in server.h of tensorflow/serving at 94f2d6944f31 (the last four are newer, and false or empty).
# Read on 2026-11-26. None is a default that depends on the machine.
MAIN_CC: dict[str, bool | int | float | str | None] = {
    "port": 8500,
    "grpc_socket_path": "",
    "rest_api_port": 0,
    "rest_api_num_threads": None,
    "rest_api_timeout_in_ms": 30000,
    "rest_api_enable_cors_support": False,
    "enable_batching": False,
    "allow_version_labels_for_unavailable_models": False,
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": False,
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": 0,
    "model_name": "default",
    "model_base_path": "",
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60_000_000,
    "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": True,
    "tensorflow_session_parallelism": 0,
    "tensorflow_session_config_file": "",
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "use_alts_credentials": False,
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": 0.0,
    "saved_model_tags": "serve",
    "grpc_channel_arguments": "",
    "grpc_max_threads": None,
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "version": False,
    "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": True,
    "prefer_tflite_model": False,
    "num_tflite_pools": None,
    "num_tflite_interpreters_per_pool": 1,
    "enable_signature_method_name_check": False,
    "xla_cpu_compilation_enabled": False,
    "xla_gpu_compilation_enabled": False,
    "enable_profiler": True,
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": False,
    "enable_grpc_healthcheck_service": False,
    "enable_serialization_as_tensor_content": False,
}


def test_a_command_line_with_every_flag_of_tensorflow_serving_is_accepted() -> None:
    given = {"rest_api_port": 8501, "model_base_path": "/m"}
    values = {name: 4 if default is None else default for name, default in MAIN_CC.items()} | given
    arguments = [f"--{name}={value}" for name, value in values.items()]
    assert parse_flags(arguments).model_base_path == Path("/m")


def test_the_table_says_where_a_default_is_another_one() -> None:
    table = documented()
    theirs = DOCS.read_text().partition("| flag of this server |")[0]
    for name, default in MAIN_CC.items():
        written, meaning = table[f"--{name}"]
        assert f"| `--{name}` |" in theirs
        same = default is None or written == str(default).lower()
        assert same or f"(there: {str(default).lower()}" in meaning, name
    assert theirs.count("| `--") == len(MAIN_CC)


# -------------------------------------------------------------------------------------- spelling


@pytest.mark.parametrize(
    ("arguments", "enabled"),
    [
        ((), True),
        (("--enable_model_warmup=false",), False),
        (("--enable_model_warmup=False",), False),
        (("--enable_model_warmup=0",), False),
        (("--enable_model_warmup=false", "--enable_model_warmup"), True),
        (("--enable_model_warmup=false", "--enable_model_warmup=TRUE"), True),
    ],
)
def test_true_and_false_as_tensorflow_reads_them(arguments: tuple[str, ...], enabled: bool) -> None:
    assert flags(*arguments).enable_model_warmup == enabled


def test_an_empty_text_is_none() -> None:
    read = flags("--batching_parameters_file=", "--model_config_file=", "--monitoring_config_file=")
    assert read.model_config_file is None
    assert read.batching is None
    assert read.metrics_path == "/monitoring/prometheus/metrics"
    with pytest.raises(StartError, match="no model is named"):
        parse_flags(["--model_base_path="])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--enable_baching",), "unknown flag --enable_baching; did you mean --enable_batching?"),
        (("--enable_baching=true",), "unknown flag --enable_baching; did you mean --enable_batching?"),
        (("--rest-api-port", "1"), "unknown flag --rest-api-port; did you mean --rest_api_port?"),
        (("-port=1",), "unknown flag -port; did you mean --port?"),
        (("--noenable_batching",), "unknown flag --noenable_batching; did you mean --enable_batching?"),
        (("--zzz",), "unknown flag --zzz; --help lists all of them"),
        (("models",), "unknown argument 'models': flags begin with --"),
        (("--num_load_threads=two",), "argument --num_load_threads: invalid int value: 'two'"),
    ],
)
def test_what_is_not_known_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert refusal(*arguments) == message


def test_the_versions() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embedded_server", "--version"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    pattern = (
        r"TensorFlow ModelServer: [\d.]+ \(embedded_server\)\n"
        r"TensorFlow Library: [\d.]+\nOpenVINO Library: [\d.]+\n"
    )
    assert re.fullmatch(pattern, done.stdout)


# -------------------------------------------------------------------------------------- meaning


@pytest.mark.parametrize(
    ("arguments", "threads"),
    [
        ((), (0, 0)),
        (("--tensorflow_session_parallelism=3",), (3, 3)),
        (("--tensorflow_session_parallelism=3", "--tensorflow_intra_op_parallelism=2"), (2, 0)),
        (("--tensorflow_inter_op_parallelism=1", "--tensorflow_intra_op_parallelism=2"), (2, 1)),
    ],
)
def test_threads(arguments: tuple[str, ...], threads: tuple[int, int]) -> None:
    read = flags(*arguments)
    assert (read.intra_op_parallelism, read.inter_op_parallelism) == threads


def test_threads_said_twice() -> None:
    kinds = ("session", "intra_op", "inter_op")
    message = refusal(*[f"--tensorflow_{kind}_parallelism=2" for kind in kinds])
    assert message.startswith("--tensorflow_session_parallelism sets both")


def test_values_below_the_smallest_one_that_counts() -> None:
    read = flags("--load_retry_interval_micros=-1", "--num_request_iterations_for_warmup=0")
    assert read.load_retry_interval == 0
    assert read.num_request_iterations_for_warmup == 1


def test_an_ignored_flag_gets_a_warning_where_it_asks_for_something_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        flags("--num_load_threads=0", "--enable_profiler=false", "--prefer_tflite_model=false")
        assert not caplog.messages
        flags("--num_load_threads=4", "--enable_profiler", "--platform_config_file=/p")
    assert sorted(caplog.messages) == [
        "--enable_profiler is ignored: there is no profiler service",
        "--num_load_threads is ignored: versions are loaded one at a time, in a thread of its own",
        "--platform_config_file is ignored: say by other flags what is in the file",
    ]
