"""The arguments of the command line, spelled as TensorFlow Serving spells them."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from embedded_server.errors import StartError
from embedded_server.monitoring import METRICS_PATH
from embedded_server.session_options import SERVE_TAG
from embedded_server.versions import LARGEST_VERSION

PER_MODEL_BATCHING = "batching_params.pbtxt"
"""In a version folder: how that model is batched."""


class Ignored(NamedTuple):
    """A flag of TensorFlow Serving's that has no meaning here."""

    default: object
    """TensorFlow Serving's own."""
    reason: str


IGNORED = {
    "num_load_threads": Ignored(0, "one version is loaded at a time, and requests do not wait for it"),
    "num_unload_threads": Ignored(0, "one version is unloaded at a time, and requests do not wait for it"),
    "flush_filesystem_caches": Ignored(True, "caches of files are left to the system"),
    "platform_config_file": Ignored("", "the other flags say how TensorFlow executes models"),
    "per_process_gpu_memory_fraction": Ignored(0.0, "this server computes on CPUs only"),
    "remove_unused_fields_from_bundle_metagraph": Ignored(True, "TensorFlow's loader decides what it keeps"),
    "prefer_tflite_model": Ignored(False, "TensorFlow Lite is not there; saved_model.pb is served"),
    "num_tflite_pools": Ignored(0, "TensorFlow Lite is not there"),
    "num_tflite_interpreters_per_pool": Ignored(1, "TensorFlow Lite is not there"),
    "xla_cpu_compilation_enabled": Ignored(False, "functions that ask for XLA are always compiled by it"),
    "xla_gpu_compilation_enabled": Ignored(False, "this server computes on CPUs only"),
    "enable_profiler": Ignored(True, "the profiler's service is not there"),
    "thread_pool_factory_config_file": Ignored("", "thread pools are TensorFlow's own"),
    "skip_initialize_tpu": Ignored(False, "this server computes on CPUs only"),
    "use_alts_credentials": Ignored(False, "ALTS works in Google's own network only"),
}
"""By name."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartError(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but an unknown flag is refused with the nearest known one."""
        values, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            nearest = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {nearest[0]}?" if nearest else "; --help lists those that there are"
            self.error(f"unknown argument: {unknown[0]}{meant}")
        return values


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


def _truth(text: str) -> bool:
    """As TensorFlow's flags read it (tensorflow/core/util/command_line_flags.cc)."""
    if text not in ("true", "false", "0", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text in ("true", "1")


def _channel_arguments(text: str) -> tuple[tuple[str, str | int], ...]:
    """Whole numbers as such, all else as text; gRPC knows which it wants (model_servers/server.cc)."""
    found: list[tuple[str, str | int]] = []
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator or not key:
            raise argparse.ArgumentTypeError(f"{part!r} is not KEY=VALUE")
        is_number = value.removeprefix("-").isdigit() and value.isascii()
        found.append((key, int(value) if is_number else value))
    return tuple(found)


def build_parser() -> argparse.ArgumentParser:
    """What reads the command line. It raises StartError for a wrong flag or value."""
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
    add(
        "--rest_api_port",
        type=_number(0, 65535),
        default=8501,
        help="port for REST, 0 for none (%(default)s)",
    )
    add("--grpc_socket_path", type=_text, help="Unix socket for gRPC, beside the port")
    add(
        "--grpc_channel_arguments",
        type=_channel_arguments,
        default=(),
        help="arguments for gRPC's core, as in grpc.max_connection_age_ms=2000,...",
    )
    add("--ssl_config_file", type=_text, help="SSLConfig in protobuf's text format: TLS for gRPC")
    add_switch("--enable_grpc_healthcheck_service", True, "answer gRPC's health service (%(default)s)")
    add_switch(
        "--enable_serialization_as_tensor_content",
        False,
        "send tensors over gRPC in tensor_content (%(default)s)",
    )
    add("--rest_api_host", type=_text, default="127.0.0.1", help="address to listen on (%(default)s)")
    add(
        "--rest_api_num_threads",
        type=_number(1, 1024),
        help="requests executed at once (default: 4 for each CPU)",
    )
    add(
        "--rest_api_timeout_in_ms",
        type=_number(-(2**31)),
        default=30000,
        help="answer 504 after this time (%(default)s; 0 or less: never)",
    )
    add_switch("--rest_api_enable_cors_support", False, "let pages of any origin ask over REST (%(default)s)")
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
        type=_number(-1),
        default=0,
        help="how often to look for changes of that file (%(default)s or less: never)",
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
        type=_number(-(2**63), 2**63 - 1),
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
        type=_number(0),
        default=0,
        help="how often to make each recorded request (%(default)s: once)",
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
    add(
        "--tensorflow_session_parallelism",
        type=_number(0),
        default=0,
        help="both of these (%(default)s: TensorFlow decides)",
    )
    add(
        "--tensorflow_session_config_file",
        type=_text,
        help="ConfigProto in protobuf's text format: how TensorFlow executes models",
    )
    add(
        "--saved_model_tags",
        type=_text,
        default=SERVE_TAG,
        help="tags of the graph in the SavedModel, as in serve,gpu (%(default)s); tensorflow backend only",
    )
    add(
        "--mixed_precision",
        choices=("", "bfloat16"),
        default="",
        help="let oneDNN compute in bfloat16; tensorflow backend only (default: as the model says)",
    )
    add_switch("--enable_batching", False, "execute requests in flight at once together (%(default)s)")
    add(
        "--batching_parameters_file",
        type=_text,
        help="how they are batched, as a BatchingParameters message in text (default: TensorFlow Serving's)",
    )
    add_switch(
        "--enable_per_model_batching_parameters",
        False,
        f"batch those models whose version folder has a {PER_MODEL_BATCHING}, as that says (%(default)s)",
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
    add("--version", action="store_true", help="say which versions these are, and end")
    for name, ignored in IGNORED.items():
        if isinstance(ignored.default, bool):
            add(f"--{name}", type=_truth, nargs="?", const=True, help=argparse.SUPPRESS)
        else:
            add(f"--{name}", type=type(ignored.default), help=argparse.SUPPRESS)
    return parser
