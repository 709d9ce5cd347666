# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.membership.neighbourhood import COPIES, FRACTION, NEIGHBOURS, neighbourhood
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.score.requests import RenderContext, rendered


def test_golden_with_neighbours_of_other_lengths(table_of):
    plain = table_of([[-1.0, -1.0], [-4.0]])
    around = table_of([[-3.0, -3.0, -3.0], [-5.0], [-4.0], [-2.0, -2.0]], copies=2)
    np.testing.assert_allclose(neighbourhood(plain, around), [3.0, -1.0])


def test_neighbours_are_proposed_by_the_given_model():
    asked = []

    def propose(record, copies, fraction):
        asked.append((copies, fraction))
        return [replace(record, text=f"{record.text} {i}") for i in range(copies)]

    context = RenderContext(rng=np.random.default_rng(0), propose=propose)
    assert len(rendered(Record(id="a", text="t"), NEIGHBOURS, context)) == COPIES
    assert asked == [(COPIES, FRACTION)]


def test_refuses_without_a_model():
    with pytest.raises(BadInput, match="reference"):
        rendered(Record(id="a", text="t"), NEIGHBOURS, RenderContext(rng=np.random.default_rng(0)))
