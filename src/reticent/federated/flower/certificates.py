# SPDX-License-Identifier: Apache-2.0
"""Certificates and keys of a deployment: refused in clear words before anything starts, and made for tests.

The server shows a certificate of an authority that clients know. A client shows that it has the private key to a public
one that the server was given beforehand.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput, Unusable

_EXPIRED, _OTHER_HOST, _OTHER_AUTHORITY = 10, 62, 20
_SELF_SIGNED = (18, 19)
"""Numbers that OpenSSL gives to its reasons."""


@dataclass(frozen=True, kw_only=True)
class ServerCertificate:
    """Files of the server's side, in PEM.

    Args:
        certificate: of the server, for the host that clients call it by.
        key: private, to it.
        authority: that signed it; clients have it too.
    """

    certificate: Path
    key: Path
    authority: Path


def check_certificate(files: ServerCertificate, host: str, *, now: datetime.datetime | None = None) -> None:
    """Refuse a certificate that clients would refuse.

    Args:
        files: of the server.
        host: name or address that clients call the server by.
        now: the time; None for the clock's.

    Raises:
        BadInput: a file is missing or holds something else; the certificate is not valid now, is for another host, or
            is of another authority.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    now = now or datetime.datetime.now(datetime.UTC)
    certificate, authority = (_read(path, x509) for path in (files.certificate, files.authority))
    given = f"certificate {files.certificate}"
    if not _bytes_of(files.key).startswith(b"-----BEGIN"):
        raise BadInput(str(files.key), "is no private key in PEM", "Give the key to the certificate.")
    if now > certificate.not_valid_after_utc or now > authority.not_valid_after_utc:
        end = min(certificate.not_valid_after_utc, authority.not_valid_after_utc)
        raise BadInput(given, f"expired on {end:%Y-%m-%d %H:%M} UTC", "Renew it.")
    if now < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc
        raise BadInput(given, f"is not valid before {begin:%Y-%m-%d %H:%M} UTC", "Check the clock, or renew it.")
    hosts = _hosts(certificate, x509)
    if host not in hosts:
        raise BadInput(
            given, f"is for another host ({', '.join(hosts) or 'none'}), not for {host}", "Give one for the --address."
        )
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise BadInput(given, f"is not of the authority {files.authority}", "Give the one that signed it.") from error


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "Check the path.") from error


def _read(path: Path, x509: Any) -> Any:
    content = _bytes_of(path)
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise BadInput(str(path), "is no certificate in PEM", "Check the file.") from error


def _hosts(certificate: Any, x509: Any) -> list[str]:
    """Names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def check_server(host: str, port: int, authority: Path, *, seconds: float = 10.0) -> bool:
    """Call a server as Flower would, and refuse its certificate in clear words; False where nobody answers yet.

    Args:
        host, port: of the server.
        authority: whose certificates are believed.
        seconds: for the answer.

    Raises:
        BadInput: there is no such file, or the certificate expired, is for another host or of another authority.
    """
    _bytes_of(authority)
    try:
        context = ssl.create_default_context(cafile=str(authority))
    except ssl.SSLError as error:
        raise BadInput(str(authority), "is no certificate in PEM", "Check the file.") from error
    try:
        with (
            socket.create_connection((host, port), timeout=seconds) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLCertVerificationError as error:
        raise BadInput(f"the server at {host}:{port}", *_refusal(error, host)) from error
    except ssl.SSLError as error:
        raise BadInput(f"the server at {host}:{port}", "does not speak TLS", "Check --superlink.") from error
    except socket.gaierror as error:
        raise BadInput(f"--superlink {host}:{port}", "is no host that can be found", "Check it.") from error
    except OSError:
        return False


def _refusal(error: ssl.SSLCertVerificationError, host: str) -> tuple[str, str]:
    if error.verify_code == _EXPIRED:
        return "shows a certificate that expired", "Whoever runs it has to renew it."
    if error.verify_code in (_OTHER_HOST, 64):
        return f"shows a certificate for another host than {host}", "Call it by the name in its certificate."
    if error.verify_code in (_OTHER_AUTHORITY, *_SELF_SIGNED):
        return "shows a certificate of another authority", "Give the --authority that it was signed by."
    return f"shows a certificate that is refused ({error.verify_message})", "Ask whoever runs it."


def public_keys(folder: Path) -> dict[str, bytes]:
    """The public keys of clients, by name of the client; in the form in which Flower registers them.

    Args:
        folder: with a file ``NAME.pub`` for each client, as ``ssh-keygen -t ecdsa -b 384`` writes them.

    Raises:
        BadInput: there is no such folder, none in it, one that is no such key, or one key of two clients.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

    files = sorted(folder.glob("*.pub")) if folder.is_dir() else []
    if not files:
        raise BadInput(str(folder), "holds no public key of a client", "Give a folder with a file NAME.pub for each.")
    keys: dict[str, bytes] = {}
    for path in files:
        try:
            key = load_ssh_public_key(path.read_bytes())
        except (ValueError, UnsupportedAlgorithm, OSError):
            key = None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not key.curve.name.startswith("secp"):
            raise BadInput(str(path), "is no public ECDSA key", "Make one: ssh-keygen -t ecdsa -b 384 -N '' -f NAME")
        encoded = key.public_bytes(encoding=Encoding.PEM, format=PublicFormat.SubjectPublicKeyInfo)
        for name, other in keys.items():
            if other == encoded:
                raise BadInput(str(path), f"is the key of client {name!r} too", "Give each client a key of its own.")
        keys[path.stem] = encoded
    return keys


def check_private_key(path: Path) -> None:
    """Refuse a client's key that Flower cannot read, or that others may.

    Raises:
        BadInput: one of these.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    content = _bytes_of(path)
    if path.stat().st_mode & 0o077:
        raise BadInput(str(path), "can be read by others on this machine", f"Run: chmod 600 {path}")
    try:
        key: Any = load_ssh_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput(
            str(path), "is no private ECDSA key without a passphrase", "Make one: ssh-keygen -t ecdsa -b 384 -f NAME"
        )


def make_certificates(
    folder: Path, hosts: Sequence[str], *, begin: datetime.datetime | None = None, hours: float = 24.0
) -> ServerCertificate:
    """An authority and a server's certificate of it, for tests and for trying things out.

    Args:
        folder: that is filled; the authority's own key is not kept.
        hosts: names and addresses that the certificate is for.
        begin: of its validity; None for an hour ago.
        hours: that it is valid.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    begin = begin or datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    root_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "reticent test authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])

    def signed(subject: Any, public: Any, extensions: Sequence[tuple[Any, bool]]) -> Any:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(root_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin)
        builder = builder.not_valid_after(begin + datetime.timedelta(hours=1 + hours))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(root_key, hashes.SHA384())

    names = x509.SubjectAlternativeName([_host_name(host, x509) for host in hosts])
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    root = signed(root_name, root_key.public_key(), [(constraints, True), (usage, True), (root_id, False)])
    no_authority = x509.BasicConstraints(ca=False, path_length=None)
    certificate = signed(name, key.public_key(), [(no_authority, True), (names, False), (by, False)])
    files = ServerCertificate(
        certificate=folder / "server.crt", key=folder / "server.key", authority=folder / "authority.crt"
    )
    folder.mkdir(parents=True, exist_ok=True)
    files.authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    write_secret(
        files.key,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return files


def _host_name(host: str, x509: Any) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make_node_key(folder: Path, name: str) -> Path:
    """A client's key for tests: ``NAME`` in ``folder``, and ``NAME.pub`` beside it; the private one's path."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    folder.mkdir(parents=True, exist_ok=True)
    write_secret(
        folder / name,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ),
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (folder / f"{name}.pub").write_bytes(public + b"\n")
    return folder / name


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read, at no time.

    Raises:
        Unusable: it is there already.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Unusable(str(path), "is there already", "Take it away.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
