# SPDX-License-Identifier: Apache-2.0
"""Key agreement and envelopes: published vectors, the library beside the slow twin, and what is refused."""

from __future__ import annotations

import builtins

import pytest

from reticent.core.errors import BadInput
from reticent.federated.secure.ciphers import LibraryCiphers, RefusedMessage


@pytest.fixture(params=["naive", "library"])
def either(request, ciphers):
    if request.param == "naive":
        return ciphers
    pytest.importorskip("cryptography")
    return LibraryCiphers()


def test_the_vector_of_the_rfc(either):
    """RFC 7748, section 5.2: one, and one thousand would take the twin seconds."""
    nine = (9).to_bytes(32, "little")
    assert either.agreed(nine, nine).hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"


def test_both_sides_agree_and_a_third_does_not(either):
    one, other, third = (bytes([n]) * 32 for n in (1, 2, 3))
    both = either.agreed(one, either.public(other))
    assert both == either.agreed(other, either.public(one))
    assert both != either.agreed(third, either.public(one))


def test_the_library_and_the_twin_are_one(ciphers):
    pytest.importorskip("cryptography")
    library = LibraryCiphers()
    for n in range(1, 6):
        secret, other = bytes([n]) * 32, bytes([n + 100]) * 32
        assert library.public(secret) == ciphers.public(secret)
        assert library.agreed(secret, library.public(other)) == ciphers.agreed(secret, ciphers.public(other))


def test_a_key_that_agrees_with_nobody_is_refused(either):
    with pytest.raises(RefusedMessage, match="agrees with nobody"):
        either.agreed(bytes([7]) * 32, bytes(32))


def test_envelopes_open_for_their_key_and_purpose_only(either):
    key, text = b"k" * 32, b"two pieces"
    envelope = either.sealed(key, text, b"1 to 2")
    assert either.opened(key, envelope, b"1 to 2") == text
    assert text not in envelope
    changed = envelope[:-1] + bytes([envelope[-1] ^ 1])
    for wrong in ((b"x" * 32, envelope, b"1 to 2"), (key, changed, b"1 to 2"), (key, envelope, b"2 to 1")):
        with pytest.raises(RefusedMessage):
            either.opened(*wrong)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=r"reticent\[federated\]"):
        LibraryCiphers()
