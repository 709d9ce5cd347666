# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from reticent.attacks.membership.con_recall import PREFIX_MEMBER, con_recall, edge_cases
from reticent.attacks.membership.recall import PREFIX_HELD_OUT, recall
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.score.requests import RenderContext, rendered


def test_golden_sign_and_recall_as_a_special_case(table_of):
    plain = table_of([[-1.0, -1.0], [-3.0, -3.0]])
    outside = table_of([[-3.0, -3.0], [-3.0, -3.0]])
    inside = table_of([[-1.0, -1.0], [-3.0, -3.0]])
    np.testing.assert_allclose(con_recall(plain, outside, inside, gamma=0.5), [2.5, 0.5])
    np.testing.assert_allclose(con_recall(plain, outside, inside, gamma=0.0), recall(plain, outside))


def test_counts_rows_cut_by_either_prefix(table_of):
    plain, cut, whole = table_of([[-1.0, -1.0]] * 2), table_of([[-1.0], [-1.0] * 2]), table_of([[-1.0] * 2, [-1.0]])
    assert list(edge_cases(plain, cut, whole).values()) == [2]


def test_the_member_prefix_comes_from_known_members():
    held_out, member = Record(id="h", text="outside"), Record(id="m", text="inside")
    context = RenderContext(rng=np.random.default_rng(0), known_held_out=[held_out], known_members=[member])
    record = Record(id="a", text="t")
    assert rendered(record, PREFIX_MEMBER, context)[0].prompt == "inside\n\n"
    assert rendered(record, PREFIX_HELD_OUT, context)[0].prompt == "outside\n\n"


def test_refuses_a_negative_weight(table_of):
    with pytest.raises(BadInput, match="gamma"):
        con_recall(*[table_of([[-1.0]])] * 3, gamma=-1.0)
