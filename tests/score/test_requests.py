# SPDX-License-Identifier: Apache-2.0
"""Variants are compared by what they are, rendered as they promise, and need no torch."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.score.requests import PLAIN, RenderContext, Request, Variant, rendered, rng_for

RECORD = Record(id="a", text="one two")


def repeat(record, context, times):
    return [record] * times


def test_equal_settings_are_one_request():
    one, two = (Variant(name="twice", copies=2, render=partial(repeat, times=2)) for _ in range(2))
    assert Request(name="x", variant=one) == Request(name="x", variant=two)
    assert len({one, two, Variant(name="twice", copies=2, render=repeat, params=(3,))}) == 2


def test_plain_is_the_record():
    assert rendered(RECORD, PLAIN, RenderContext(rng=rng_for(RECORD, "plain"))) == [RECORD]


def test_wrong_number_of_copies_and_wrong_ids_are_refused():
    context = RenderContext(rng=np.random.default_rng(0))
    with pytest.raises(BadInput, match="gave 2 record"):
        rendered(RECORD, Variant(name="v", copies=3, render=partial(repeat, times=2)), context)
    with pytest.raises(BadInput, match="'v'"):
        rendered(RECORD, Variant(name="v", render=lambda r, c: [Record(id="b", text="x")]), context)


def test_variants_that_cannot_be():
    with pytest.raises(ValueError, match="at least 1"):
        Variant(name="v", copies=0)
    with pytest.raises(ValueError, match="no render"):
        Variant(name="v", copies=2)


def test_the_generator_follows_from_record_and_variant_only():
    first = rng_for(RECORD, "v").integers(1 << 60)
    assert rng_for(Record(id="a", text="other"), "v").integers(1 << 60) == first
    assert rng_for(RECORD, "w").integers(1 << 60) != first
    assert rng_for(Record(id="b", text="one two"), "v").integers(1 << 60) != first


def test_requests_import_no_torch():
    code = "import sys, reticent.score.requests; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
