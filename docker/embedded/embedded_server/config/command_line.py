"""The flags and their values, spelled and read as TensorFlow Serving's (tsl/util/command_line_flags.cc)."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NoReturn

from embedded_server.common.errors import StartError
from embedded_server.config.ignored_flags import IGNORED
from embedded_server.config.monitoring import METRICS_PATH
from embedded_server.config.versions import LARGEST_VERSION

_INT64 = 2**63 - 1


class Parser(argparse.ArgumentParser):
    """The parser of the command line, without a flag."""

    def __init__(self) -> None:
        super().__init__(
            prog="python -m embedded_server",
            allow_abbrev=False,
            description="Serves SavedModels over TensorFlow Serving's REST and gRPC interfaces.",
        )

    @property
    def defaults(self) -> dict[str, Any]:
        """All flags, by their names with the dashes, and their defaults."""
        return {name: action.default for action in self._actions for name in action.option_strings}

    def add_switch(self, *names: str, default: bool, help: str) -> None:
        """Add a flag that is true or false; alone, it is true."""
        self.add_argument(*names, type=_truth, nargs="?", const=True, default=default, help=help)

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The values of all flags. Raises StartError for an unknown flag or a wrong value."""
        values, unknown = self.parse_known_args(arguments)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return values

    def error(self, message: str) -> NoReturn:
        raise StartError(message)

    def _unknown(self, argument: str) -> str:
        name = argument.partition("=")[0]
        if not name.startswith("-"):
            return f"unknown argument {argument!r}: flags begin with --"
        nearest = difflib.get_close_matches(name, self.defaults, n=1)
        return f"unknown flag {name}; " + (
            f"did you mean {nearest[0]}?" if nearest else "--help lists all of them"
        )


def make_parser() -> Parser:
    """The parser of all flags."""
    parser = Parser()
    _add_interfaces(parser)
    _add_models(parser)
    _add_execution(parser)
    _add_limits(parser)
    for flag in IGNORED:
        if isinstance(flag.holds, bool):
            parser.add_switch(f"--{flag.name}", default=flag.holds, help=f"ignored: {flag.why}")
        else:
            kind: Any = type(flag.holds)
            parser.add_argument(f"--{flag.name}", type=kind, default=flag.holds, help=f"ignored: {flag.why}")
    return parser


def version_lines() -> str:
    """What --version prints: the first two lines are TensorFlow Serving's."""
    tensorflow = _installed("tensorflow-cpu") or _installed("tensorflow")
    return (
        f"TensorFlow ModelServer: {_installed('tensorflow-serving-api')} (embedded_server)\n"
        f"TensorFlow Library: {tensorflow}\n"
        f"OpenVINO Library: {_installed('openvino')}"
    )


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# ------------------------------------------------------------------------------------------ values


def _number(smallest: int, largest: int = 2**31 - 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        digits = text.removeprefix("-") if smallest < 0 else text
        number = int(text) if digits.isascii() and digits.isdigit() else smallest - 1
        if not smallest <= number <= largest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {smallest} to {largest}")
        return number

    return parse


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _optional(text: str) -> str | None:
    """An empty text is none, as in TensorFlow Serving."""
    return text or None


def _truth(text: str) -> bool:
    """TensorFlow takes true and false in any case; 0 and 1 are ours."""
    if text.lower() not in ("true", "false", "0", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")


# ------------------------------------------------------------------------------------------ flags


def _add_interfaces(parser: Parser) -> None:
    add, add_switch = parser.add_argument, parser.add_switch
    add_switch("--version", default=False, help="print the versions and end")
    add("--port", type=_number(0, 65535), default=8500, help="port for gRPC, 0 for none (%(default)s)")
    add("--grpc_host", type=_text, default="127.0.0.1", help="address for gRPC (%(default)s)")
    add(
        "--grpc_socket_path",
        type=_optional,
        help="Unix socket for gRPC, in addition to the port (default: none)",
    )
    add(
        "--ssl_config_file",
        type=_optional,
        help="SSLConfig in protobuf's text format: encrypt gRPC with its key and certificate (default: not)",
    )
    add_switch("--use_alts_credentials", default=False, help="not supported: must be false")
    add(
        "--grpc_channel_arguments",
        default="",
        help="KEY=VALUE,KEY=VALUE: settings of gRPC's server, such as grpc.max_connection_age_ms=2000",
    )
    add_switch(
        "--enable_grpc_healthcheck_service", default=True, help="have gRPC's health service (%(default)s)"
    )
    add_switch(
        "--enable_serialization_as_tensor_content",
        default=False,
        help="answer Predict with tensor_content instead of a field of values (%(default)s)",
    )
    add(
        "--grpc_max_threads",
        type=_number(1, 1024),
        help="gRPC requests executed at once (default: 4 for each CPU)",
    )
    add(
        "--rest_api_port",
        type=_number(0, 65535),
        default=8501,
        help="port for REST, 0 for none (%(default)s)",
    )
    add("--rest_api_host", type=_text, default="127.0.0.1", help="address for REST (%(default)s)")
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
    add_switch(
        "--rest_api_enable_cors_support",
        "--enable_cors_support",
        default=False,
        help="let web pages of any origin use REST: CORS headers in every answer (%(default)s)",
    )
    add(
        "--monitoring_config_file",
        type=_optional,
        help=f"whether and where Prometheus reads metrics (default: at {METRICS_PATH})",
    )


def _add_models(parser: Parser) -> None:
    add, add_switch = parser.add_argument, parser.add_switch
    add("--model_name", type=_text, default="default", help="name in the URL (%(default)s)")
    add(
        "--model_base_path",
        type=_optional,
        help="folder with one numeric folder for each version (needed unless --model_config_file is given)",
    )
    add("--model_version", type=_number(0, LARGEST_VERSION), help="version to serve (default: the newest)")
    add(
        "--model_config_file",
        type=_optional,
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
        type=_number(-_INT64 - 1, _INT64),
        default=60_000_000,
        help="time between two attempts to load (%(default)s: a minute; negative: none)",
    )
    add_switch(
        "--allow_version_labels_for_unavailable_models",
        default=False,
        help="let a new label name a version that is not available yet, as none is at the start "
        "(%(default)s)",
    )
    add_switch(
        "--enable_model_warmup",
        default=True,
        help="make the model's recorded requests, or one that is made up, before it is available "
        "(%(default)s)",
    )
    add(
        "--num_request_iterations_for_warmup",
        type=_number(-(2**31)),
        default=1,
        help="how often to make each recorded request (%(default)s, and for what is less)",
    )


def _add_execution(parser: Parser) -> None:
    add, add_switch = parser.add_argument, parser.add_switch
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
        type=_optional,
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
    add(
        "--tensorflow_session_parallelism",
        type=_number(0),
        default=0,
        help="both of these at once, where neither is given (%(default)s: TensorFlow decides)",
    )
    add(
        "--tensorflow_session_config_file",
        type=_optional,
        help="ConfigProto of TensorFlow's session in protobuf's text format (default: none)",
    )
    add(
        "--mixed_precision",
        choices=("", "bfloat16"),
        default="",
        help="bfloat16: have TensorFlow compute in it, where oneDNN can on this CPU (default: not)",
    )
    add(
        "--saved_model_tags",
        default="serve",
        help="tags of the MetaGraph to load, with commas between them (%(default)s)",
    )
    add_switch(
        "--enable_batching", default=False, help="execute requests in flight at once together (%(default)s)"
    )
    add(
        "--batching_parameters_file",
        type=_optional,
        help="how they are batched, as a BatchingParameters message in text (default: TensorFlow Serving's)",
    )
    add_switch(
        "--enable_per_model_batching_parameters",
        default=False,
        help="batch a version as its batching_params.pbtxt says, and not without one (%(default)s)",
    )
    add_switch(
        "--enable_signature_method_name_check",
        default=False,
        help="refuse to classify and regress with signatures that were not saved for it (%(default)s)",
    )


def _add_limits(parser: Parser) -> None:
    add = parser.add_argument
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
