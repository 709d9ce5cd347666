# SPDX-License-Identifier: Apache-2.0
"""Every registered extraction attack keeps to the rules, and the rules catch attacks that do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.extraction import EXTRACTIONS, extraction
from reticent.core.errors import BadInput
from reticent.testing.extraction_conformance import check_extraction, planted_evidence


@pytest.mark.parametrize("name", EXTRACTIONS.names())
def test_conformance(name):
    check_extraction(name)


def flipped(forced):
    """Share.

    Returns ``[N]``.
    """
    return (forced.sum(forced.rank != 0) > 0).astype(float)


def silent(forced):
    """Share."""
    return (forced.sum(forced.rank != 0) == 0).astype(float)


def greedy(forced):
    """Share.

    Returns ``[N]``.
    """
    found = (forced.sum(forced.rank != 0) == 0).astype(float)
    forced.rank[:] += 1
    return found


@pytest.mark.parametrize(
    ("function", "complaint"), [(flipped, "finds 0.00"), (silent, "returned"), (greedy, "second call|writes into")]
)
def test_offenders_are_caught(function, complaint):
    offender = replace(EXTRACTIONS.get("discoverable"), name="offender", function=function, summary="Share.")
    with pytest.raises(AssertionError, match=complaint):
        check_extraction(offender)


@pytest.mark.parametrize("bad", [np.array([0.5, 1.0]), np.array([0.0, np.nan]), np.array([[0.0]]), np.array([2.0])])
def test_what_is_no_share_is_refused(bad):
    offender = replace(EXTRACTIONS.get("discoverable"), function=lambda forced: bad)
    with pytest.raises(BadInput, match="discoverable"):
        offender.score(planted_evidence(known=True))


def test_what_cannot_be_had_is_refused_when_the_attack_is_written():
    def unknown(logits):
        """Share."""

    def mixed(forced, whole):
        """Share."""

    def without_default(forced, *, k):
        """Share."""

    for function in (unknown, mixed):
        with pytest.raises(TypeError, match="all about the same unit"):
            extraction("x", access="text", paper="arXiv:2012.07805")(function)
    with pytest.raises(TypeError, match="hyper-parameter"):
        extraction("x", access="text", paper="arXiv:2012.07805")(without_default)
    with pytest.raises(ValueError, match="cannot be"):
        extraction("x", access="mind", paper="arXiv:2012.07805")(unknown)
    assert "x" not in EXTRACTIONS
