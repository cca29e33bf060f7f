"""Configuration files in protobuf's text format, of messages that the published stubs have no class of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedded_server.errors import StartError

Fields = Mapping[str, tuple[int, str]]
"""Field -> its number and type: bool, string, or the name of another message."""


def read_message(flag: str, file: str, name: str, messages: Mapping[str, Fields]) -> Any:
    """The message called `name` that a flag's file holds. Raises StartError for a bad file."""
    from google.protobuf import text_format

    message = _message_class(name, messages)()
    try:
        text_format.Parse(read_text(flag, file), message)
    except text_format.ParseError as error:
        raise StartError(f"{flag} {file} is no {name}: {error}") from error
    return message


def read_text(flag: str, file: str) -> str:
    """What a flag's file holds. Raises StartError where it cannot be read."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise StartError(f"{flag} {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StartError(f"{flag} {file} is no text: {error}") from error


def _message_class(name: str, messages: Mapping[str, Fields]) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    package = "embedded_server"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}/{name}.proto", package=package, syntax="proto3"
    )
    for message, fields in messages.items():
        described = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            one = described.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if kind in messages:
                one.type, one.type_name = kinds.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                one.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()  # its own: nothing of the same name can be in its way
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
