"""The command line, spelled as TensorFlow Serving spells it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from embedded_server.errors import StartError
from embedded_server.monitoring import METRICS_PATH, metrics_path


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
    model_base_path: Path
    model_version: int | None
    backend: str
    precision: str
    optimized_base_path: Path
    intra_op_parallelism: int
    inter_op_parallelism: int
    shutdown_grace: int
    check_method_names: bool
    metrics_path: str | None


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


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Read the command line. Raises StartError for a wrong flag or value."""
    parser = _Parser(
        prog="python -m embedded_server",
        allow_abbrev=False,
        description="Serves one SavedModel over TensorFlow Serving's REST and gRPC interfaces.",
    )
    add = parser.add_argument
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
        required=True,
        help="folder with one numeric folder for each version",
    )
    add("--model_version", type=_number(0, 2**63 - 1), help="version to serve (default: the newest)")
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
        help="threads within an operation (%(default)s: TensorFlow decides)",
    )
    add(
        "--tensorflow_inter_op_parallelism",
        type=_number(0),
        default=0,
        help="operations at once (%(default)s: TensorFlow decides)",
    )
    add(
        "--shutdown_grace_seconds",
        type=_number(0, 86400),
        default=15,
        help="how long SIGTERM waits for requests in flight (%(default)s)",
    )
    add(
        "--enable_signature_method_name_check",
        type=_truth,
        default=False,
        nargs="?",
        const=True,
        help="refuse to classify and regress with signatures that were not saved for it (%(default)s)",
    )
    add(
        "--monitoring_config_file",
        type=_text,
        help=f"whether and where Prometheus reads metrics (default: at {METRICS_PATH})",
    )
    values = parser.parse_args(arguments)
    if values.port == values.rest_api_port:
        raise StartError(f"--port and --rest_api_port are both {values.port}: they must differ")
    base_path = Path(values.model_base_path)
    return Flags(
        grpc_port=values.port,
        grpc_host=values.grpc_host,
        grpc_max_threads=values.grpc_max_threads,
        rest_api_port=values.rest_api_port,
        rest_api_host=values.rest_api_host,
        rest_api_num_threads=values.rest_api_num_threads,
        rest_api_timeout=values.rest_api_timeout_in_ms / 1000,
        model_name=values.model_name,
        model_base_path=base_path,
        model_version=values.model_version,
        backend=values.backend,
        precision=values.precision,
        optimized_base_path=Path(values.optimized_base_path or base_path / ".optimized"),
        intra_op_parallelism=values.tensorflow_intra_op_parallelism,
        inter_op_parallelism=values.tensorflow_inter_op_parallelism,
        shutdown_grace=values.shutdown_grace_seconds,
        check_method_names=values.enable_signature_method_name_check,
        metrics_path=metrics_path(values.monitoring_config_file),
    )
