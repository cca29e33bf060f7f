"""What flags say of the gRPC interface, except for its port and threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedded_server.common.errors import StartError
from embedded_server.config.tls import Tls

_INT32 = range(-(2**31), 2**31)


@dataclass(frozen=True)
class GrpcOptions:
    """See command_line for the flags."""

    socket_path: Path | None = None
    tls: Tls | None = None
    channel_arguments: Mapping[str, int | str] = field(default_factory=dict)
    has_health_service: bool = True
    writes_tensor_content: bool = False
    """Whether tensors of answers are raw bytes instead of a field of values."""


def channel_arguments(text: str) -> dict[str, int | str]:
    """--grpc_channel_arguments: KEY=VALUE,KEY=VALUE. Raises StartError.

    Values that are whole numbers are passed as such, all others as texts (model_servers/server.cc).
    """
    arguments: dict[str, int | str] = {}
    for argument in filter(None, text.split(",")):
        key, equals, value = argument.partition("=")
        if not key or not equals:
            raise StartError(f"--grpc_channel_arguments: {argument!r} is not KEY=VALUE")
        arguments[key] = _number_or_text(value)
    return arguments


def _number_or_text(value: str) -> int | str:
    digits = value.removeprefix("-")
    if digits.isascii() and digits.isdigit() and int(value) in _INT32:
        return int(value)
    return value
