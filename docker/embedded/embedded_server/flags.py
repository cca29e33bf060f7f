"""What the server was told on the command line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded_server.arguments import IGNORED, build_parser
from embedded_server.batching_parameters import BatchingParameters, read_batching_parameters
from embedded_server.errors import StartError
from embedded_server.limits import Limits
from embedded_server.monitoring import metrics_path
from embedded_server.session_options import SERVE_TAG, SessionOptions
from embedded_server.tls import Tls, read_tls

_log = logging.getLogger(__name__)


NEVER = 10.0 * 365 * 86400
"""Seconds that no request takes."""


@dataclass(frozen=True)
class Flags:
    """What the server was told; see arguments.py for the meaning of each. Times in seconds."""

    grpc_port: int
    grpc_host: str
    grpc_max_threads: int | None
    grpc_socket_path: Path | None
    grpc_channel_arguments: tuple[tuple[str, str | int], ...]
    tls: Tls | None
    enable_health_service: bool
    sends_tensor_content: bool
    rest_api_port: int
    rest_api_host: str
    rest_api_num_threads: int | None
    rest_api_timeout: float
    enable_cors: bool
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
    session: SessionOptions
    limits: Limits
    shutdown_drain: int
    shutdown_grace: int
    check_method_names: bool
    metrics_path: str | None
    batching: BatchingParameters | None
    batches_per_model: bool


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Read the command line. Raises StartError for a wrong flag or value."""
    parser = build_parser()
    values = parser.parse_args(arguments)
    _warn_of_ignored(values)
    if not values.port and not values.rest_api_port and values.grpc_socket_path is None:
        raise StartError("--port and --rest_api_port are both 0, and there is no --grpc_socket_path")
    if values.port == values.rest_api_port and values.port:
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
        grpc_socket_path=_path(values.grpc_socket_path),
        grpc_channel_arguments=values.grpc_channel_arguments,
        tls=read_tls(values.ssl_config_file),
        enable_health_service=values.enable_grpc_healthcheck_service,
        sends_tensor_content=values.enable_serialization_as_tensor_content,
        rest_api_port=values.rest_api_port,
        rest_api_host=values.rest_api_host,
        rest_api_num_threads=values.rest_api_num_threads,
        rest_api_timeout=values.rest_api_timeout_in_ms / 1000 if values.rest_api_timeout_in_ms > 0 else NEVER,
        enable_cors=values.rest_api_enable_cors_support,
        model_name=values.model_name,
        model_base_path=_path(values.model_base_path),
        model_version=values.model_version,
        model_config_file=_path(values.model_config_file),
        model_config_file_poll_wait=max(values.model_config_file_poll_wait_seconds, 0),
        file_system_poll_wait=values.file_system_poll_wait_seconds,
        max_num_load_retries=values.max_num_load_retries,
        load_retry_interval=max(values.load_retry_interval_micros, 0) / 1e6,
        allow_version_labels_for_unavailable_models=values.allow_version_labels_for_unavailable_models,
        enable_model_warmup=values.enable_model_warmup,
        num_request_iterations_for_warmup=max(values.num_request_iterations_for_warmup, 1),
        backend=values.backend,
        precision=values.precision,
        optimized_base_path=_path(values.optimized_base_path),
        session=_session(values),
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
        batches_per_model=_per_model(values),
    )


def _warn_of_ignored(values: Any) -> None:
    for name, ignored in IGNORED.items():
        value = getattr(values, name)
        if name == "use_alts_credentials" and value:
            # To be served without it would be to be served without encryption.
            raise StartError(f"--{name} cannot be served: {ignored.reason}; use --ssl_config_file")
        if value not in (None, ignored.default):
            _log.warning("--%s has no meaning here: %s", name, ignored.reason)


def _session(values: Any) -> SessionOptions:
    within, between = values.tensorflow_intra_op_parallelism, values.tensorflow_inter_op_parallelism
    both = values.tensorflow_session_parallelism
    if both and within and between:
        raise StartError(
            "--tensorflow_session_parallelism says what --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism say: give it, or these"
        )
    if not within and not between:
        within = between = both
    tags = tuple(filter(None, values.saved_model_tags.split(",")))
    if values.backend != "tensorflow":
        if tags != (SERVE_TAG,):
            raise StartError(
                "--saved_model_tags goes with --backend=tensorflow: only the tag serve is optimized"
            )
        if values.mixed_precision:
            raise StartError("--mixed_precision goes with --backend=tensorflow; there is --precision=bf16")
    options = SessionOptions(
        within, between, tags, bool(values.mixed_precision), values.tensorflow_session_config_file
    )
    if options.config_file is not None:
        options.config()  # raises for a bad file, now and not for each model
    return options


def _per_model(values: Any) -> bool:
    if values.enable_per_model_batching_parameters and not values.enable_batching:
        raise StartError("--enable_per_model_batching_parameters is set without --enable_batching")
    return bool(values.enable_per_model_batching_parameters)


def _batching(enabled: bool, file: str | None) -> BatchingParameters | None:
    if not enabled:
        if file is not None:
            raise StartError("--batching_parameters_file is set without setting --enable_batching to true")
        return None
    return BatchingParameters() if file is None else read_batching_parameters(Path(file))
