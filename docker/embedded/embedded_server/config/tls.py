"""--ssl_config_file: keys and certificates of the gRPC interface.

The file holds an SSLConfig as text (tensorflow_serving/config/ssl_config.proto), and in it keys and
certificates in PEM form, not the names of their files:

    server_key: "-----BEGIN PRIVATE KEY-----\\n..."
    server_cert: "-----BEGIN CERTIFICATE-----\\n..."
    custom_ca: "-----BEGIN CERTIFICATE-----\\n..."
    client_verify: true
"""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from embedded_server.common.errors import StartError
from embedded_server.config.config_files import message_class, read_message

_FLAG = "--ssl_config_file"


@dataclass(frozen=True)
class Tls:
    """What a server proves itself with, in PEM form, and what it asks of clients."""

    key: str = field(repr=False)
    certificate: str
    """With those between it and its authority, if there are any."""
    authority: str
    """The certificates that those of clients are checked against; empty for none."""
    verifies_clients: bool


def read_tls(file: Path) -> Tls:
    """Read an SSLConfig. Raises StartError for what a server cannot use."""
    fields = {"server_key": str, "server_cert": str, "custom_ca": str, "client_verify": bool}
    config = message_class("SSLConfig", fields)()
    read_message(_FLAG, file, config)
    for name in ("server_key", "server_cert"):
        if not getattr(config, name):
            raise StartError(f"{_FLAG} {file}: {name} is missing")
    if config.client_verify and not config.custom_ca:
        raise StartError(f"{_FLAG} {file}: client_verify needs custom_ca, to check clients' certificates")
    for name in ("server_cert", "custom_ca"):
        _check_certificates(f"{_FLAG} {file}: {name}", getattr(config, name))
    _check_key(f"{_FLAG} {file}: server_key", config.server_key, config.server_cert)
    return Tls(config.server_key, config.server_cert, config.custom_ca, config.client_verify)


def _check_certificates(what: str, text: str) -> None:
    if not text:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise StartError(f"{what} is no certificate in PEM form") from error


def _check_key(what: str, key: str, certificate: str) -> None:
    """gRPC itself would only say that it cannot bind."""
    try:
        folder = tempfile.TemporaryDirectory()  # readable by this user alone; ssl takes no text
    except OSError:
        return  # there is no place to write to: gRPC has the last word
    with folder as name:
        key_file, certificate_file = Path(name, "key"), Path(name, "certificate")
        key_file.write_text(key)
        certificate_file.write_text(certificate)
        try:
            # A password is given so that none is asked for on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_file, key_file, "none")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise StartError(f"{what} does not belong to server_cert") from error
            reason = f": {error.reason}" if error.reason else ""
            raise StartError(f"{what} must be in PEM form, without a password{reason}") from error
