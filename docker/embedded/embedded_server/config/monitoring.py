"""--monitoring_config_file: whether Prometheus can read metrics, and where.

The file holds a MonitoringConfig as text (tensorflow_serving/config/monitoring_config.proto), of which the
published stubs have no class:

    prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedded_server.common.errors import StartError
from embedded_server.config.config_files import read_message

METRICS_PATH = "/monitoring/prometheus/metrics"
"""Where metrics are without a file. TensorFlow Serving has none then; here they are left on."""


def metrics_path(file: str | None) -> str | None:
    """The path at which metrics are served; None for nowhere. Raises StartError for a bad file."""
    if file is None:
        return METRICS_PATH
    config = _monitoring_config()()
    read_message("--monitoring_config_file", Path(file), config)
    prometheus = config.prometheus_config
    if not prometheus.enable:
        return None
    path: str = prometheus.path or METRICS_PATH
    if not path.startswith("/") or path.lower().startswith("/v1/"):
        raise StartError(f"--monitoring_config_file {file}: {path!r} cannot be the path of metrics")
    return path


def _monitoring_config() -> Any:
    """The class of MonitoringConfig messages."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="embedded_server/monitoring_config.proto", package="embedded_server", syntax="proto3"
    )
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=field.TYPE_BOOL, label=field.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    file.message_type.add(name="MonitoringConfig").field.add(
        name="prometheus_config",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".embedded_server.PrometheusConfig",
        label=field.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("embedded_server.MonitoringConfig"))
