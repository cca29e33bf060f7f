"""Keys and certificates for tests of TLS, made when they are asked for."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Identity:
    """A key and its certificate."""

    private_key: ec.EllipticCurvePrivateKey
    x509: x509.Certificate

    @property
    def key(self) -> str:
        """In PEM form."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    @property
    def locked_key(self) -> str:
        """In PEM form, behind a password."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        ).decode()

    @property
    def certificate(self) -> str:
        """In PEM form."""
        return self.x509.public_bytes(serialization.Encoding.PEM).decode()


def make_identity(name: str, signer: Identity | None = None) -> Identity:
    """A key and a certificate for `name`, signed by signer; by itself without one, as an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if signer is None else signer.x509.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    certificate = builder.sign(key if signer is None else signer.private_key, hashes.SHA256())
    return Identity(key, certificate)


def write_ssl_config(file: Path, **fields: str | bool) -> Path:
    """An SSLConfig as text."""
    lines = []
    for name, value in fields.items():
        written = str(value).lower() if isinstance(value, bool) else '"' + value.replace("\n", "\\n") + '"'
        lines.append(f"{name}: {written}\n")
    file.write_text("".join(lines))
    return file
