# SPDX-License-Identifier: Apache-2.0
"""Renderings: neighbours proposed in batches and once, and a length limit that prefixes do not use up."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.score.candidates import propose
from reticent.score.engine import ScoreOptions
from reticent.score.make_tables import ScoredModel, _proposer
from reticent.score.render import render
from reticent.score.requests import PLAIN, Variant
from reticent.testing.tiny import save_tiny, tiny_tokenizer

RECORDS = [
    Record(id="a", text="the order is in the mail and the mail is on the train"),
    Record(id="b", prompt="Where is it?", completion="On the way, Zoë — 東京 at last."),
    Record(id="c", messages=(Message(role="user", content="hi there"), Message(role="assistant", content="the order"))),
    Record(id="d", text=""),
    Record(id="e", text="x"),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return load(str(save_tiny(tmp_path_factory.mktemp("models") / "base", bos=True)), dtype="float32")


@pytest.fixture
def proposer(reference, tmp_path):
    return _proposer(ScoredModel(loaded=reference, off=False, options=ScoreOptions(tokens_per_batch=40)), tmp_path)


def neighbours(fraction=0.3):
    return Variant(name="near", copies=3, render=lambda r, c: c.propose(r, 3, fraction), params=(fraction,))


def copies(records, proposer, variant=None):
    """The texts of the renderings, decoded."""
    made = render(records, variant or neighbours(), tokenizer=proposer.tokenizer, max_tokens=None, proposer=proposer)
    return [proposer.tokenizer.decode(row.token_id) for row in made.rows]


def test_only_trained_tokens_change_and_about_as_many_as_asked(proposer):
    proposer.answers.clear()
    for question in (propose.Question(record, 3, 0.3) for record in RECORDS):
        proposer.answer([question])
        found = proposer.propose(*question)
        assert len(found) == 3
        for copy in found:
            assert copy.id == question.record.id
            before, after = question.record.pieces, copy.pieces
            assert [trained for trained, _ in before] == [trained for trained, _ in after]
            for (trained, old), (_, new) in zip(before, after, strict=True):
                assert "�" not in new
                assert (old == new) or trained
    proposer.answer([propose.Question(RECORDS[0], 3, 0.3)])
    tokens = proposer.tokenizer(RECORDS[0].text, add_special_tokens=False)["input_ids"]
    token_count = len(tokens)
    text = propose._Text.of(RECORDS[0], proposer.tokenizer)
    chosen = propose._choose(propose.Question(RECORDS[0], 3, 0.3), text, 512)
    assert chosen.shape == (3, round(0.3 * token_count))
    assert (chosen[0] != chosen[1]).any()


def test_replacements_are_the_models_likely_tokens_there(proposer, reference):
    record = RECORDS[0]
    text = propose._Text.of(record, proposer.tokenizer)
    chosen = propose._choose(propose.Question(record, 2, 1.0), text, 512)
    (likely,) = proposer._likely([text], [chosen])
    with torch.inference_mode():
        p = reference.model(input_ids=torch.from_numpy(text.token_id)[None].long()).logits[0].softmax(1).numpy()
    assert sorted(likely) == list(range(1, len(text.token_id)))
    for place, (token, share) in likely.items():
        np.testing.assert_array_equal(token, np.argsort(-p[place - 1], kind="stable")[: propose.TOP + 1])
        np.testing.assert_allclose(share, np.sort(p[place - 1])[::-1][: propose.TOP + 1], rtol=1e-4)


def test_the_original_is_never_drawn_unless_nothing_else_can_be(proposer):
    tokenizer = proposer.tokenizer
    the, order, eos = tokenizer.convert_tokens_to_ids(["the", "Ġorder", tokenizer.eos_token])
    rng = np.random.default_rng(0)
    likely = (np.array([the, order, eos]), np.array([0.98, 0.01, 0.01]))
    assert {propose._draw(likely, the, tokenizer, rng) for _ in range(50)} == {order}
    assert propose._draw((np.array([the, eos]), np.array([0.5, 0.5])), the, tokenizer, rng) == the


def test_same_in_every_run_and_kept_on_disk(proposer, reference, tmp_path, monkeypatch):
    first = copies(RECORDS, proposer)
    assert first != copies(RECORDS, proposer, neighbours(0.9))
    again = _proposer(ScoredModel(loaded=reference, off=False, options=ScoreOptions(tokens_per_batch=40)), tmp_path)
    monkeypatch.setattr(reference.model, "forward", None)
    assert copies(RECORDS, again) == first


def test_a_block_is_one_batch_of_questions(proposer, monkeypatch):
    asked = []
    monkeypatch.setattr(
        propose.Proposer,
        "_compute",
        lambda self, q, original=propose.Proposer._compute: asked.append(len(q)) or original(self, q),
    )
    many = [Record(id=str(i), text=f"text number {i}") for i in range(100)]
    assert len(copies(many, proposer)) == 300
    assert asked == [85, 15]


def test_a_rendering_may_ask_twice(proposer):
    def twice(record, context):
        (first,) = context.propose(record, 1, 0.5)
        return context.propose(first, 2, 0.5)

    found = copies(RECORDS[:2], proposer, Variant(name="twice", copies=2, render=twice))
    assert len(found) == 4


def test_a_rendering_that_fails_is_not_swallowed(proposer):
    with pytest.raises(BadInput, match="fraction"):
        copies(RECORDS, proposer, neighbours(1.5))


def test_a_prefix_does_not_use_up_the_limit(reference):
    prefix = Variant(name="prefix", render=lambda r, c: [replace(r, text=None, prompt="y" * 90, completion=r.text)])
    records = [Record(id="long", text="abcdefgh" * 10), Record(id="short", text="abc")]

    def rows(variant):
        return render(records, variant, tokenizer=reference.tokenizer, max_tokens=20).rows

    for plain, after in zip(rows(PLAIN), rows(prefix), strict=True):
        np.testing.assert_array_equal(plain.token_id[plain.trained], after.token_id[after.trained])
        assert len(after) == 90 + len(plain)
    assert [len(row) for row in rows(PLAIN)] == [20, 4]
    untouched = encode(records[0], reference.tokenizer)
    assert len(rows(PLAIN)[0]) < len(untouched)


def test_a_cut_text_weighs_what_is_left_of_it():
    tokenizer = tiny_tokenizer()
    text = "the order of the house " * 20
    rows = render([Record(id="a", text=text)], PLAIN, tokenizer=tokenizer, max_tokens=12)
    left = tokenizer.decode(rows.rows[0].token_id)
    assert text.startswith(left)
    assert rows.about["text_bytes"][0] == len(left)
    assert rows.about["zlib_bytes"][0] == len(zlib.compress(left.encode()))
