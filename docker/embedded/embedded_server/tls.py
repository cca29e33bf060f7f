"""--ssl_config_file: gRPC with TLS.

The file holds an SSLConfig as text (tensorflow_serving/config/ssl_config.proto), whose fields are what PEM
files hold, not their names:

    server_key: "-----BEGIN PRIVATE KEY-----\\n..."
    server_cert: "-----BEGIN CERTIFICATE-----\\n..."
    custom_ca: "-----BEGIN CERTIFICATE-----\\n..."
    client_verify: true
"""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from embedded_server.errors import StartError
from embedded_server.text_messages import read_message

_FLAG = "--ssl_config_file"
_MESSAGES = {
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    }
}


@dataclass(frozen=True)
class Tls:
    """How clients are shown who the server is, and whether they have to show the same. All in PEM."""

    key: bytes
    certificate: bytes
    authority: bytes | None
    """Of the certificates of clients; None for those that the system knows."""
    verifies_clients: bool


def read_tls(file: str | None) -> Tls | None:
    """None without a file. Raises StartError for a bad one."""
    if file is None:
        return None
    message = read_message(_FLAG, file, "SSLConfig", _MESSAGES)
    found = Tls(
        message.server_key.encode(),
        message.server_cert.encode(),
        message.custom_ca.encode() or None,
        message.client_verify,
    )
    _check(found, file)
    return found


def _check(tls: Tls, file: str) -> None:
    """gRPC's own errors name neither the file nor what is wrong in it."""
    if not tls.key or not tls.certificate:
        raise StartError(f"{_FLAG} {file} needs a server_key and a server_cert")
    if tls.verifies_clients and tls.authority is None:
        raise StartError(f"{_FLAG} {file} has client_verify, and no custom_ca to verify clients by")
    with tempfile.TemporaryDirectory() as folder:  # which only this user may read
        key, certificate = Path(folder) / "key", Path(folder) / "certificate"
        key.write_bytes(tls.key)
        certificate.write_bytes(tls.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
            if tls.authority is not None:
                context.load_verify_locations(cadata=tls.authority.decode())
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or error
            raise StartError(f"{_FLAG} {file}: key and certificates do not work: {reason}") from error


def _no_password() -> str:
    raise ValueError("the key has a password")
