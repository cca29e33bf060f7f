"""--monitoring_config_file: whether Prometheus can read metrics, and where.

The file holds a MonitoringConfig as text (tensorflow_serving/config/monitoring_config.proto):

    prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }
"""

from __future__ import annotations

from embedded_server.errors import StartError
from embedded_server.text_messages import read_message

METRICS_PATH = "/monitoring/prometheus/metrics"
"""Where metrics are without a file. TensorFlow Serving has none then; here they are left on."""
_FLAG = "--monitoring_config_file"
_MESSAGES = {
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
}


def metrics_path(file: str | None) -> str | None:
    """The path at which metrics are served; None for nowhere. Raises StartError for a bad file."""
    if file is None:
        return METRICS_PATH
    prometheus = read_message(_FLAG, file, "MonitoringConfig", _MESSAGES).prometheus_config
    if not prometheus.enable:
        return None
    path: str = prometheus.path or METRICS_PATH
    if not path.startswith("/") or path.lower().startswith("/v1/"):
        raise StartError(f"{_FLAG} {file}: {path!r} cannot be the path of metrics")
    return path
