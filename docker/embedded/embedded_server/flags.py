"""The command line, spelled as TensorFlow Serving spells it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from embedded_server.batching_parameters import BatchingParameters, read_batching_parameters
from embedded_server.errors import StartError
from embedded_server.limits import Limits
from embedded_server.monitoring import METRICS_PATH, metrics_path
from embedded_server.versions import LARGEST_VERSION


@dataclass(frozen=True)
class Flags:
    """What the server was told; see parse_flags for the meaning of each. Times in seconds."""

    grpc_port: int
    grpc_host: str
    grpc_max_threads: int | None
    rest_api_port: int
    rest_api_host: str
    rest_api_num_threads: int | None
    rest_api_timeout: float
    model_name: str
    model_base_path: Path | None
    model_version: int | None
    model_config_file: Path | None
    model_config_file_poll_wait: float
    file_system_poll_wait: float
    max_num_load_retries: int
    load_retry_interval: float
    allow_version_labels_for_unavailable_models: bool
    enable_model_warmup: bool
    num_request_iterations_for_warmup: int
    backend: str
    precision: str
    optimized_base_path: Path | None
    intra_op_parallelism: int
    inter_op_parallelism: int
    limits: Limits
    shutdown_drain: int
    shutdown_grace: int
    check_method_names: bool
    metrics_path: str | None
    batching: BatchingParameters | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartError(message)


def _number(smallest: int, largest: int = 2**31 - 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else -1
        if not smallest <= number <= largest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {smallest} to {largest}")
        return number

    return parse


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _truth(text: str) -> bool:
    """As TensorFlow's flags read it (tensorflow/core/util/command_line_flags.cc)."""
    if text not in ("true", "false", "0", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text in ("true", "1")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Read the command line. Raises StartError for a wrong flag or value."""
    parser = _Parser(
        prog="python -m embedded_server",
        allow_abbrev=False,
        description="Serves SavedModels over TensorFlow Serving's REST and gRPC interfaces.",
    )
    add = parser.add_argument

    def add_switch(name: str, default: bool, help: str) -> None:
        add(name, type=_truth, nargs="?", const=True, default=default, help=help)

    add("--port", type=_number(0, 65535), default=8500, help="port for gRPC, 0 for none (%(default)s)")
    add("--grpc_host", type=_text, default="127.0.0.1", help="address for gRPC (%(default)s)")
    add(
        "--grpc_max_threads",
        type=_number(1, 1024),
        help="gRPC requests executed at once (default: 4 for each CPU)",
    )
    add("--rest_api_port", type=_number(1, 65535), default=8501, help="port to listen on (%(default)s)")
    add("--rest_api_host", type=_text, default="127.0.0.1", help="address to listen on (%(default)s)")
    add(
        "--rest_api_num_threads",
        type=_number(1, 1024),
        help="requests executed at once (default: 4 for each CPU)",
    )
    add(
        "--rest_api_timeout_in_ms",
        type=_number(1),
        default=30000,
        help="answer 504 after this time (%(default)s)",
    )
    add("--model_name", type=_text, default="default", help="name in the URL (%(default)s)")
    add(
        "--model_base_path",
        type=_text,
        help="folder with one numeric folder for each version (needed unless --model_config_file is given)",
    )
    add("--model_version", type=_number(0, LARGEST_VERSION), help="version to serve (default: the newest)")
    add(
        "--model_config_file",
        type=_text,
        help="ModelServerConfig in protobuf's text format: several models, version policies and labels; "
        "--model_name and --model_base_path are ignored then",
    )
    add(
        "--model_config_file_poll_wait_seconds",
        type=_number(0),
        default=0,
        help="how often to look for changes of that file (%(default)s: never)",
    )
    add(
        "--file_system_poll_wait_seconds",
        type=_number(0),
        default=1,
        help="how often to look for new versions (%(default)s; 0: only at the start)",
    )
    add(
        "--max_num_load_retries",
        type=_number(0),
        default=5,
        help="how often to load a version again that could not be loaded (%(default)s)",
    )
    add(
        "--load_retry_interval_micros",
        type=_number(0, 2**63 - 1),
        default=60_000_000,
        help="time between two attempts to load (%(default)s: a minute)",
    )
    add_switch(
        "--allow_version_labels_for_unavailable_models",
        False,
        "let a new label name a version that is not available yet, as none is at the start (%(default)s)",
    )
    add_switch(
        "--enable_model_warmup",
        True,
        "make the model's recorded requests, or one that is made up, before it is available (%(default)s)",
    )
    add(
        "--num_request_iterations_for_warmup",
        type=_number(1),
        default=1,
        help="how often to make each recorded request (%(default)s)",
    )
    add(
        "--backend",
        choices=("tensorflow", "openvino"),
        default="tensorflow",
        help="what executes the model (%(default)s)",
    )
    add(
        "--precision",
        choices=("auto", "f32", "bf16"),
        default="auto",
        help="arithmetic of the openvino backend (%(default)s: what was chosen by measuring)",
    )
    add(
        "--optimized_base_path",
        type=_text,
        help="folder of what the openvino backend executes (default: MODEL_BASE_PATH/.optimized)",
    )
    add(
        "--tensorflow_intra_op_parallelism",
        type=_number(0),
        default=0,
        help="threads within an operation (%(default)s: TensorFlow decides; "
        "one for the part of an optimized model that TensorFlow executes)",
    )
    add(
        "--tensorflow_inter_op_parallelism",
        type=_number(0),
        default=0,
        help="operations at once (%(default)s: TensorFlow decides)",
    )
    add_switch("--enable_batching", False, "execute requests in flight at once together (%(default)s)")
    add(
        "--batching_parameters_file",
        type=_text,
        help="how they are batched, as a BatchingParameters message in text (default: TensorFlow Serving's)",
    )
    add(
        "--max_request_bytes",
        type=_number(1, 2**40),
        default=64 * 2**20,  # a parsed document can take 25 times that
        help="largest body of a request, packed or unpacked; larger ones get 413 (%(default)s)",
    )
    add(
        "--max_total_request_bytes",
        type=_number(1, 2**50),
        help="bodies of all requests at once; what is over it gets 503 (default: 4 of the largest)",
    )
    add(
        "--max_queued_requests",
        type=_number(0, 2**20),
        default=256,
        help="requests that may wait for those being executed; further ones get 503 (%(default)s)",
    )
    add(
        "--max_connections",
        type=_number(1, 2**20),
        default=1024,
        help="open connections; beyond it the one that is idle for longest is closed (%(default)s)",
    )
    add(
        "--client_timeout_seconds",
        type=_number(1, 86400),
        default=30,
        help="how long a client may take to send a request, or to take its answer (%(default)s); a large "
        "one may take longer while 16 KiB get through per second",
    )
    add(
        "--shutdown_drain_seconds",
        type=_number(0, 86400),
        default=0,
        help="how long SIGTERM goes on accepting connections while the status says 503, for load balancers "
        "to notice (%(default)s)",
    )
    add(
        "--shutdown_grace_seconds",
        type=_number(0, 86400),
        default=15,
        help="how long requests in flight may take after that (%(default)s); a second signal ends it at once",
    )
    add_switch(
        "--enable_signature_method_name_check",
        False,
        "refuse to classify and regress with signatures that were not saved for it (%(default)s)",
    )
    add(
        "--monitoring_config_file",
        type=_text,
        help=f"whether and where Prometheus reads metrics (default: at {METRICS_PATH})",
    )
    values = parser.parse_args(arguments)
    if values.port == values.rest_api_port:
        raise StartError(f"--port and --rest_api_port are both {values.port}: they must differ")
    if values.model_config_file is None and values.model_base_path is None:
        parser.error("no model is named: add --model_base_path, or --model_config_file")
    for flag in ("model_version", "optimized_base_path"):
        if values.model_config_file is not None and getattr(values, flag) is not None:
            parser.error(f"--{flag} goes with --model_base_path; leave it out beside --model_config_file")
    total = values.max_total_request_bytes or 4 * values.max_request_bytes
    if total < values.max_request_bytes:
        parser.error(f"--max_total_request_bytes {total} is less than one request may have")
    return Flags(
        grpc_port=values.port,
        grpc_host=values.grpc_host,
        grpc_max_threads=values.grpc_max_threads,
        rest_api_port=values.rest_api_port,
        rest_api_host=values.rest_api_host,
        rest_api_num_threads=values.rest_api_num_threads,
        rest_api_timeout=values.rest_api_timeout_in_ms / 1000,
        model_name=values.model_name,
        model_base_path=_path(values.model_base_path),
        model_version=values.model_version,
        model_config_file=_path(values.model_config_file),
        model_config_file_poll_wait=values.model_config_file_poll_wait_seconds,
        file_system_poll_wait=values.file_system_poll_wait_seconds,
        max_num_load_retries=values.max_num_load_retries,
        load_retry_interval=values.load_retry_interval_micros / 1e6,
        allow_version_labels_for_unavailable_models=values.allow_version_labels_for_unavailable_models,
        enable_model_warmup=values.enable_model_warmup,
        num_request_iterations_for_warmup=values.num_request_iterations_for_warmup,
        backend=values.backend,
        precision=values.precision,
        optimized_base_path=_path(values.optimized_base_path),
        intra_op_parallelism=values.tensorflow_intra_op_parallelism,
        inter_op_parallelism=values.tensorflow_inter_op_parallelism,
        limits=Limits(
            request_bytes=values.max_request_bytes,
            total_request_bytes=total,
            queued_requests=values.max_queued_requests,
            connections=values.max_connections,
            client_timeout=values.client_timeout_seconds,
        ),
        shutdown_drain=values.shutdown_drain_seconds,
        shutdown_grace=values.shutdown_grace_seconds,
        check_method_names=values.enable_signature_method_name_check,
        metrics_path=metrics_path(values.monitoring_config_file),
        batching=_batching(values.enable_batching, values.batching_parameters_file),
    )


def _batching(enabled: bool, file: str | None) -> BatchingParameters | None:
    if not enabled:
        if file is not None:
            raise StartError("--batching_parameters_file is set without setting --enable_batching to true")
        return None
    return BatchingParameters() if file is None else read_batching_parameters(Path(file))
