# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from reticent.attacks.membership.recall import (
    PREFIX_HELD_OUT,
    SHOT_CHARACTERS,
    SHOTS,
    conditional_nll,
    edge_cases,
    prefixed,
    recall,
)
from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.score.requests import RenderContext, rendered

KNOWN = [Record(id=f"k{i}", text=f"known {i} " + "x" * 1000) for i in range(30)]
CONTEXT = RenderContext(rng=np.random.default_rng(0), known_held_out=KNOWN, known_members=[Record(id="m", text="mine")])


def test_golden_and_sign(table_of):
    plain = table_of([[-1.0, -1.0], [-3.0, -3.0]])
    after = table_of([[-3.0, -3.0], [-3.0, -3.0]])
    np.testing.assert_allclose(recall(plain, after), [3.0, 1.0])  # the member falls back to what others have


def test_only_tokens_that_both_have_are_compared(table_of):
    plain = table_of([[-1.0, -3.0], [-2.0], [-1.0, -1.0]])
    after = table_of([[-99.0, -2.0, -4.0], [-8.0], [-5.0]])
    np.testing.assert_allclose(conditional_nll(after, plain), [3.0, 8.0, 5.0])
    assert list(edge_cases(plain, after).values()) == [1]


def test_prefix_is_known_texts_only_and_not_trained_on():
    record = Record(id="a", text="secret", user="u", spans=(Span(start=0, end=6, kind="X"),))
    (made,) = rendered(record, PREFIX_HELD_OUT, CONTEXT)
    assert (made.id, made.user, made.completion, made.text, made.spans) == ("a", "u", "secret", None, ())
    assert made.pieces[0][0] is False
    assert made.prompt.count("known") == SHOTS
    assert len(made.prompt) <= SHOTS * (SHOT_CHARACTERS + 2)
    assert "known 0 " in made.prompt
    assert "known 29 " in made.prompt


def test_every_shape_of_record():
    (pair,) = rendered(Record(id="a", prompt="Q", completion="A"), prefixed("member"), CONTEXT)
    assert (pair.prompt, pair.completion) == ("mine\n\nQ", "A")
    answer = Message(role="assistant", content="A")
    asked = Record(id="a", messages=(Message(role="user", content="Q"), answer))
    (chat,) = rendered(asked, prefixed("member"), CONTEXT)
    assert chat.messages == (Message(role="user", content="mine\n\nQ"), answer)
    (alone,) = rendered(Record(id="a", messages=(answer,)), prefixed("member"), CONTEXT)
    assert alone.messages == (Message(role="user", content="mine"), answer)


def test_other_shots_are_another_variant():
    with pytest.raises(BadInput, match="name of its own"):
        prefixed("held_out", shots=2)
    two = prefixed("held_out", shots=2, name="prefix_held_out_2")
    assert two != PREFIX_HELD_OUT
    (made,) = rendered(Record(id="a", text="t"), two, CONTEXT)
    assert made.prompt.count("known") == 2


def test_refuses_without_known_records():
    with pytest.raises(BadInput, match="known"):
        rendered(Record(id="a", text="t"), PREFIX_HELD_OUT, RenderContext(rng=np.random.default_rng(0)))
