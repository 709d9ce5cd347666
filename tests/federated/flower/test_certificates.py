# SPDX-License-Identifier: Apache-2.0
"""Certificates and keys of a deployment: those that clients would refuse are refused in clear words beforehand."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.federated.flower import certificates
from reticent.federated.flower.certificates import ServerCertificate

pytest.importorskip("cryptography", reason="certificates need cryptography: pip install 'reticent[federated]'")

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return certificates.make_certificates(tmp_path_factory.mktemp("tls"), [HOST, "localhost"])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return certificates.make_certificates(tmp_path_factory.mktemp("other"), ["elsewhere.example"])


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=9)
    return certificates.make_certificates(tmp_path_factory.mktemp("old"), [HOST], begin=begin)


def test_a_good_certificate_is_taken_and_its_key_is_its_owners(good: ServerCertificate) -> None:
    certificates.check_certificate(good, HOST)
    certificates.check_certificate(good, "localhost")
    assert good.key.stat().st_mode & 0o777 == 0o600


def test_what_clients_would_refuse_is_refused(
    good: ServerCertificate, other: ServerCertificate, old: ServerCertificate, tmp_path: Path
) -> None:
    text = tmp_path / "text.crt"
    text.write_text("no certificate")
    early = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    cases: list[tuple[ServerCertificate, datetime.datetime | None, str]] = [
        (old, None, "expired on"),
        (good, early, "not valid before"),
        (other, None, r"another host \(elsewhere.example\), not for 127.0.0.1"),
        (replace(good, authority=other.authority), None, "not of the authority"),
        (replace(good, certificate=text), None, "no certificate in PEM"),
        (replace(good, key=text), None, "no private key"),
        (replace(good, key=tmp_path / "none"), None, "cannot be read"),
    ]
    for files, now, words in cases:
        with pytest.raises(BadInput, match=words):
            certificates.check_certificate(files, HOST, now=now)


@contextmanager
def serving(files: ServerCertificate) -> Iterator[int]:
    """A TLS server that says nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with socket.create_server((HOST, 0)) as listening:
        listening.settimeout(10)

        def accept() -> None:
            try:
                with context.wrap_socket(listening.accept()[0], server_side=True):
                    pass
            except OSError:
                pass

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join()


def test_a_client_says_what_is_wrong_with_a_servers_certificate(
    good: ServerCertificate, other: ServerCertificate, old: ServerCertificate
) -> None:
    with serving(good) as port:
        assert certificates.check_server(HOST, port, good.authority)
    cases = [
        (old, old.authority, "expired"),
        (other, other.authority, "another host"),
        (good, other.authority, "another authority"),
    ]
    for files, authority, words in cases:
        with serving(files) as port, pytest.raises(BadInput, match=words):
            certificates.check_server(HOST, port, authority)
    with socket.create_server((HOST, 0)) as busy:
        port = busy.getsockname()[1]
    assert not certificates.check_server(HOST, port, good.authority)


def test_keys_of_clients(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    for name in ("ana", "ben"):
        private = certificates.make_node_key(keys, name)
        certificates.check_private_key(private)
        assert private.stat().st_mode & 0o777 == 0o600
    found = certificates.public_keys(keys)
    assert sorted(found) == ["ana", "ben"]
    assert found["ana"] != found["ben"]
    with pytest.raises(BadInput, match="is there already"):
        certificates.make_node_key(keys, "ana")


def bad_keys() -> list[tuple[str, Callable[[Path], object], str]]:
    return [
        ("none", lambda folder: folder.mkdir(), "no public key"),
        ("missing", lambda folder: None, "no public key"),
        ("garbage", lambda folder: (folder.mkdir(), (folder / "a.pub").write_text("ssh-rsa x")), "no public ECDSA"),
        (
            "twice",
            lambda folder: (
                certificates.make_node_key(folder, "ana"),
                (folder / "ben.pub").write_bytes((folder / "ana.pub").read_bytes()),
            ),
            "key of client 'ana' too",
        ),
    ]


@pytest.mark.parametrize(
    ("kind", "make", "words"), bad_keys(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_folders_of_keys_that_are_refused(
    kind: str, make: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / kind
    make(folder)
    with pytest.raises(BadInput, match=words):
        certificates.public_keys(folder)


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key = certificates.make_node_key(tmp_path, "ana")
    key.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        certificates.check_private_key(key)
    text = tmp_path / "text"
    text.write_text("x")
    text.chmod(0o600)
    with pytest.raises(BadInput, match="no private ECDSA key"):
        certificates.check_private_key(text)
    with pytest.raises(BadInput, match="cannot be read"):
        certificates.check_private_key(tmp_path / "none")
