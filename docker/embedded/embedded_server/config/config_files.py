"""Configuration files: messages in protobuf's text format.

The published stubs of TensorFlow Serving lack some of the messages; their classes are made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedded_server.common.errors import StartError


def read_message(flag: str, file: Path, message: Any) -> None:
    """Fill an empty message from the file that a flag names. Raises StartError."""
    from google.protobuf import text_format

    try:
        text_format.Parse(file.read_text(encoding="utf-8"), message)
    except OSError as error:
        raise StartError(f"{flag} {file}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise StartError(f"{flag} {file} is no {message.DESCRIPTOR.name}: {error}") from None


def message_class(name: str, fields: Mapping[str, type[bool] | type[str]]) -> Any:
    """The class of a message with these fields. Their numbers do not occur in the text format."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"embedded_server/{name}.proto", package="embedded_server", syntax="proto3"
    )
    message = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), start=1):
        message.field.add(
            name=field,
            number=number,
            type=kinds.TYPE_BOOL if kind is bool else kinds.TYPE_STRING,
            label=kinds.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"embedded_server.{name}"))
