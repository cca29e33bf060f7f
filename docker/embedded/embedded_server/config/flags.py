"""What the command line says, checked."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded_server.common.errors import StartError
from embedded_server.common.limits import Limits
from embedded_server.config.batching_parameters import BatchingParameters, read_batching_parameters
from embedded_server.config.command_line import make_parser, version_lines
from embedded_server.config.grpc_options import GrpcOptions, channel_arguments
from embedded_server.config.ignored_flags import notices
from embedded_server.config.monitoring import metrics_path
from embedded_server.config.tls import read_tls

_SERVE = "serve"  # tf.saved_model.SERVING
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flags:
    """What the server was told; see command_line for the meaning of each. Times in seconds."""

    grpc_port: int
    grpc_host: str
    grpc_max_threads: int | None
    grpc: GrpcOptions
    rest_api_port: int
    rest_api_host: str
    rest_api_num_threads: int | None
    rest_api_timeout: float
    enable_cors_support: bool
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
    saved_model_tags: tuple[str, ...]
    tensorflow_session_config_file: Path | None
    mixed_precision: str
    limits: Limits
    shutdown_drain: int
    shutdown_grace: int
    check_method_names: bool
    metrics_path: str | None
    batching: BatchingParameters | None
    per_model_batching: bool


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Read the command line.

    Raises StartError for a wrong flag or value, SystemExit after --help and --version.
    """
    values = make_parser().read(arguments)
    if values.version:
        print(version_lines())
        raise SystemExit(0)
    for notice in notices(values):
        _log.warning("%s", notice)
    _check_ports(values)
    if values.model_config_file is None and values.model_base_path is None:
        raise StartError("no model is named: add --model_base_path, or --model_config_file")
    for flag in ("model_version", "optimized_base_path"):
        if values.model_config_file is not None and getattr(values, flag) is not None:
            raise StartError(
                f"--{flag} goes with --model_base_path; it cannot be combined with --model_config_file"
            )
    total = values.max_total_request_bytes or 4 * values.max_request_bytes
    if total < values.max_request_bytes:
        raise StartError(f"--max_total_request_bytes {total} is less than one request may have")
    intra_op_parallelism, inter_op_parallelism = _threads(values)
    return Flags(
        grpc_port=values.port,
        grpc_host=values.grpc_host,
        grpc_max_threads=values.grpc_max_threads,
        grpc=_grpc_options(values),
        rest_api_port=values.rest_api_port,
        rest_api_host=values.rest_api_host,
        rest_api_num_threads=values.rest_api_num_threads,
        rest_api_timeout=values.rest_api_timeout_in_ms / 1000,
        enable_cors_support=values.rest_api_enable_cors_support,
        model_name=values.model_name,
        model_base_path=_path(values.model_base_path),
        model_version=values.model_version,
        model_config_file=_path(values.model_config_file),
        model_config_file_poll_wait=values.model_config_file_poll_wait_seconds,
        file_system_poll_wait=values.file_system_poll_wait_seconds,
        max_num_load_retries=values.max_num_load_retries,
        load_retry_interval=max(0, values.load_retry_interval_micros) / 1e6,
        allow_version_labels_for_unavailable_models=values.allow_version_labels_for_unavailable_models,
        enable_model_warmup=values.enable_model_warmup,
        num_request_iterations_for_warmup=max(1, values.num_request_iterations_for_warmup),
        backend=values.backend,
        precision=values.precision,
        optimized_base_path=_path(values.optimized_base_path),
        intra_op_parallelism=intra_op_parallelism,
        inter_op_parallelism=inter_op_parallelism,
        saved_model_tags=_tags(values),
        tensorflow_session_config_file=_path(values.tensorflow_session_config_file),
        mixed_precision=values.mixed_precision,
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
        per_model_batching=values.enable_per_model_batching_parameters,
    )


def _check_ports(values: Namespace) -> None:
    if values.port == values.rest_api_port != 0:
        raise StartError(f"--port and --rest_api_port are both {values.port}: they must differ")
    if not values.port and not values.rest_api_port and values.grpc_socket_path is None:
        raise StartError("--port and --rest_api_port are both 0, and there is no --grpc_socket_path")
    if values.use_alts_credentials:
        raise StartError("--use_alts_credentials is not supported; --ssl_config_file encrypts gRPC")


def _grpc_options(values: Namespace) -> GrpcOptions:
    return GrpcOptions(
        socket_path=_path(values.grpc_socket_path),
        tls=None if values.ssl_config_file is None else read_tls(Path(values.ssl_config_file)),
        channel_arguments=channel_arguments(values.grpc_channel_arguments),
        has_health_service=values.enable_grpc_healthcheck_service,
        writes_tensor_content=values.enable_serialization_as_tensor_content,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _threads(values: Namespace) -> tuple[int, int]:
    """Threads within an operation, and operations at once; 0 leaves them to TensorFlow."""
    within, between = values.tensorflow_intra_op_parallelism, values.tensorflow_inter_op_parallelism
    both = values.tensorflow_session_parallelism
    if within and between and both:
        raise StartError(
            "--tensorflow_session_parallelism sets both --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism: leave it out, or both of them"
        )
    return (within, between) if within or between else (both, both)


def _tags(values: Namespace) -> tuple[str, ...]:
    tags = tuple(filter(None, values.saved_model_tags.split(","))) or (_SERVE,)
    if values.backend == "openvino":
        if set(tags) != {_SERVE}:
            raise StartError(f"--saved_model_tags: --backend=openvino serves what has the tag {_SERVE} alone")
        for flag in ("mixed_precision", "tensorflow_session_config_file"):
            if getattr(values, flag):
                _log.warning("--%s is ignored: it goes with --backend=tensorflow", flag)
    return tags


def _batching(enabled: bool, file: str | None) -> BatchingParameters | None:
    if not enabled:
        if file is not None:
            raise StartError("--batching_parameters_file is set without setting --enable_batching to true")
        return None
    return BatchingParameters() if file is None else read_batching_parameters(Path(file))
