# SPDX-License-Identifier: Apache-2.0
"""Tokens are those of the text as a whole, with every kind of tokenizer."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from reticent.core.record import Message, Record, Span
from reticent.models.encode import encode, opening_tokens
from reticent.models.tokens import holding, leading_tokens, tokenise, trailing_tokens
from reticent.testing.tokenizers import BLANKS_KEPT, TOKENIZERS, tokenizer_of_kind

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|turn|>assistant\n"
    "{% generation %}{{ m['content'] + '<|end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ '<|turn|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
)
TEXT = st.text(alphabet="the ordeAn.:\n\t é漢😀", max_size=24)
kinds = pytest.mark.parametrize("kind", TOKENIZERS)
trials = settings(deadline=None, max_examples=25)


@cache
def of_kind(kind: str) -> PreTrainedTokenizerFast:
    return tokenizer_of_kind(kind, template=TEMPLATE)


@kinds
@trials
@given(prompt=TEXT, completion=TEXT)
def test_tokens_are_those_of_the_whole_text(kind: str, prompt: str, completion: str) -> None:
    tokenizer = of_kind(kind)
    whole = tokenizer(prompt + completion)["input_ids"]
    assert encode(Record(id="1", prompt=prompt, completion=completion), tokenizer).token_id.tolist() == whole
    assert encode(Record(id="1", text=prompt + completion), tokenizer).token_id.tolist() == whole


def in_letters(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """What ids stand for, without a last character that is not whole."""
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)).rstrip("\ufffd")


@pytest.mark.parametrize("kind", BLANKS_KEPT)
@trials
@given(prompt=TEXT, completion=TEXT)
def test_the_mask_begins_with_the_token_that_has_the_first_letter_of_the_completion(
    kind: str, prompt: str, completion: str
) -> None:
    """Asked of decoding, which knows nothing of offsets: all before the first trained token is within the prompt, and
    the token itself is not. What a character that is unknown decodes to is not known, so those are left out."""
    tokenizer = of_kind(kind)
    row = encode(Record(id="1", prompt=prompt, completion=completion), tokenizer)
    ids, lead = row.token_id.tolist(), len(leading_tokens(tokenizer))
    body = ids[lead : len(ids) - len(trailing_tokens(tokenizer))]
    trained = row.trained[lead : lead + len(body)].tolist()
    first = trained.index(True) if True in trained else len(body)
    assert trained == [False] * first + [True] * (len(body) - first)  # nothing behind it is left out
    assert not row.trained[:lead].any()
    assert not row.trained[lead + len(body) :].any()
    assert (True in trained) == bool(completion)
    if tokenizer.unk_token_id in body or in_letters(tokenizer, body).lstrip() != (prompt + completion).lstrip():
        return
    assert prompt.lstrip().startswith(in_letters(tokenizer, body[:first]).lstrip()[: len(prompt.lstrip())])
    assert len(in_letters(tokenizer, body[:first]).lstrip()) <= len(prompt.lstrip())
    if completion.strip() and prompt.strip():
        last = next(n for n in range(first + 1, len(body) + 1) if n == len(body) or not _goes_on(tokenizer, body, n))
        assert len(in_letters(tokenizer, body[:last]).lstrip()) > len(prompt.lstrip())


def _goes_on(tokenizer: PreTrainedTokenizerFast, body: list[int], n: int) -> bool:
    """Whether token ``n`` is a further byte of the character before it."""
    return str(tokenizer.decode(body[:n])).endswith("\ufffd")


@kinds
@trials
@given(prompt=TEXT, completion=TEXT, tail=TEXT)
def test_the_mask_is_what_a_walk_over_letters_finds(kind: str, prompt: str, completion: str, tail: str) -> None:
    """A slow twin on a middle piece, so that both its borders are asked."""
    tokenizer = of_kind(kind)
    text = prompt + completion + tail
    tokens = tokenise(text, tokenizer, offsets=True)
    wanted = np.zeros(len(text), dtype=np.bool_)
    wanted[len(prompt) : len(prompt + completion)] = True
    assert tokens.offsets is not None
    found, stop = [], 0
    for start, end in tokens.offsets.tolist():
        if start == end and stop < start:
            start = stop
        letters = [wanted[at] for at in range(start, end)]
        found.append(any(letters) if letters else found[-1] if found else bool(wanted[:1].any()))
        stop = max(stop, end)
    assert holding(tokens.offsets, wanted).tolist() == found


@kinds
@trials
@given(asked=TEXT, answer=TEXT, again=TEXT)
def test_chats_are_masked_as_the_template_masks_them(kind: str, asked: str, answer: str, again: str) -> None:
    tokenizer = of_kind(kind)
    if (
        kind not in BLANKS_KEPT or kind == "byte_level_trimmed"
    ):  # theirs loses its place where a blank without offsets begins or ends an answer
        answer = answer.strip() or "the"
    turns = [("user", asked), ("assistant", answer), ("user", again), ("assistant", "the " + answer)]
    said = [{"role": role, "content": content} for role, content in turns]
    how = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    theirs = tokenizer.apply_chat_template(said, **how)
    record = Record(id="1", messages=tuple(Message(role=role, content=content) for role, content in turns))
    ours = encode(record, tokenizer, add_eos=True)
    assert ours.token_id.tolist() == theirs["input_ids"]
    assert ours.trained.tolist() == [bool(one) for one in theirs["assistant_masks"]]
    plain = tokenizer_without_names(kind)
    assert encode(record, plain, add_eos=True).trained.tolist() == ours.trained.tolist()
    assert encode(record, plain).trained.tolist() == encode(record, tokenizer).trained.tolist()


@cache
def tokenizer_without_names(kind: str) -> PreTrainedTokenizerFast:
    bare = TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    tokenizer = copy.deepcopy(of_kind(kind))
    tokenizer.chat_template = bare
    return tokenizer


@kinds
def test_what_stands_around_a_text_stays_and_is_not_put_there_twice(kind: str) -> None:
    tokenizer = of_kind(kind)
    before, behind = leading_tokens(tokenizer), trailing_tokens(tokenizer)
    plain = encode(Record(id="1", text="the order"), tokenizer)
    assert plain.token_id.tolist() == tokenizer("the order")["input_ids"]
    assert plain.trained.sum() == len(plain) - len(before) - len(behind)
    start = tokenizer.decode(before).replace(" ", "") if before else ""
    written = encode(Record(id="1", text=f"{start}the order</s>"), tokenizer, add_eos=True)
    ids = written.token_id.tolist()
    assert ids[: len(before)] == before
    assert ids.count(tokenizer.eos_token_id) == 1 + before.count(tokenizer.eos_token_id)
    assert ids[-1] == tokenizer.eos_token_id
    assert written.trained.tolist() == [False] * len(before) + [True] * (len(ids) - len(before))
    assert not encode(Record(id="1", text="the order</s>"), tokenizer).trained[-1]  # an end is not scored
    assert opening_tokens("the order", tokenizer) == ids_before_the_end(tokenizer, "the order")


def ids_before_the_end(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids = tokenizer(text)["input_ids"]
    return ids[: len(ids) - len(trailing_tokens(tokenizer))]


def test_a_text_that_begins_with_a_part_of_the_prefix_gets_the_rest() -> None:
    glm = of_kind("glm")
    whole = glm("Hi")["input_ids"]
    assert encode(Record(id="1", text="Hi"), glm).token_id.tolist() == whole
    assert encode(Record(id="1", text="<sop>Hi"), glm).token_id.tolist() == whole
    assert encode(Record(id="1", text="[gMASK]<sop>Hi"), glm).token_id.tolist() == whole


def test_an_end_stands_behind_a_text_that_is_its_own_beginning() -> None:
    """OPT's </s> comes first and last."""
    opt = of_kind("byte_level_trimmed")
    end = opt.eos_token_id
    assert encode(Record(id="1", text="Hi"), opt, add_eos=True).token_id.tolist() == [*opt("Hi")["input_ids"], end]
    empty = encode(Record(id="1", text=""), opt, add_eos=True)
    assert (empty.token_id.tolist(), empty.trained.tolist()) == ([end, end], [False, True])


@kinds
@pytest.mark.parametrize("before", ["Answer: ", "Answer:\n", "the order of "])
def test_spans_are_marked_in_the_tokens_of_the_whole(kind: str, before: str) -> None:
    tokenizer = of_kind(kind)
    record = Record(
        id="1", prompt=before, completion="Ann now", spans=(Span(start=len(before) + 1, end=len(before) + 4, kind="X"),)
    )
    row = encode(record, tokenizer, mark_spans=True)
    assert row.marked is not None
    assert row.token_id.tolist() == tokenizer(before + "Ann now")["input_ids"]
    found = tokenizer.decode(row.token_id[row.marked]).strip().lower()
    assert found.replace(" ", "").removeprefix(before.strip().lower()) == "ann"
