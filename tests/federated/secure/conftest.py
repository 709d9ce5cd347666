# SPDX-License-Identifier: Apache-2.0
"""Ciphers for secure rounds."""

from __future__ import annotations

import pytest

from reticent.testing.naive_ciphers import NaiveCiphers


@pytest.fixture(scope="session")
def ciphers():
    return NaiveCiphers()
