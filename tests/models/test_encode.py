# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.models.encode import encode, leading_tokens
from reticent.testing.tiny import tiny_tokenizer

PLAIN = tiny_tokenizer()
WITH_BOS = tiny_tokenizer(bos=True)
TEXT = st.text(max_size=40)


def chat(*turns: tuple[str, str]) -> Record:
    return Record(id="c", messages=tuple(Message(role=role, content=content) for role, content in turns))


def texts(record: Record, **options: object) -> tuple[str, str]:
    """What the encoded record decodes to: all of it, and the trained part."""
    encoded = encode(record, PLAIN, **options)  # type: ignore[arg-type]
    return PLAIN.decode(encoded.token_id), PLAIN.decode(encoded.token_id[encoded.trained])


def test_plain_text_is_all_trained_on_and_starts_with_the_tokenizers_own_first_token() -> None:
    record = Record(id="1", text="in the order")
    without, with_bos = encode(record, PLAIN), encode(record, WITH_BOS)
    assert without.token_id.tolist() == PLAIN("in the order")["input_ids"]
    assert without.trained.all()
    assert with_bos.token_id.tolist() == WITH_BOS("in the order")["input_ids"]
    assert with_bos.trained.tolist() == [False] + [True] * len(without)
    assert without.token_id.dtype == np.int32
    assert leading_tokens(PLAIN) == []
    assert leading_tokens(WITH_BOS) == [WITH_BOS.bos_token_id]


def test_the_end_is_marked_only_when_asked() -> None:
    record = Record(id="1", text="hi")
    ended = encode(record, PLAIN, add_eos=True)
    assert ended.token_id.tolist() == [*encode(record, PLAIN).token_id.tolist(), PLAIN.eos_token_id]
    assert ended.trained.all()


@settings(deadline=None, max_examples=60)
@given(prompt=TEXT, completion=TEXT)
def test_the_mask_cuts_exactly_at_the_end_of_the_prompt(prompt: str, completion: str) -> None:
    record = Record(id="1", prompt=prompt, completion=completion)
    assert texts(record) == (prompt + completion, completion)


def test_no_token_lies_across_the_end_of_the_prompt() -> None:
    record = Record(id="1", prompt="pay th", completion="e order")
    joined = PLAIN("pay the order")["input_ids"]
    assert encode(record, PLAIN).token_id.tolist() != joined  # " the" would be one token
    assert texts(record) == ("pay the order", "e order")


def test_chat_marks_the_assistants_words_and_with_an_end_the_token_that_closes_them() -> None:
    record = chat(("user", "hi"), ("assistant", "the order"), ("user", "and?"), ("assistant", " no"))
    whole = (
        "<|turn|>user\nhi<|end|>\n<|turn|>assistant\nthe order<|end|>\n"
        "<|turn|>user\nand?<|end|>\n<|turn|>assistant\n no<|end|>\n"
    )
    assert texts(record) == (whole, "the order no")
    assert texts(record, add_eos=True) == (whole, "the order<|end|> no<|end|>")


@settings(deadline=None, max_examples=60)
@given(said=st.lists(TEXT, min_size=1, max_size=3), asked=TEXT)
def test_chat_whatever_is_said(said: list[str], asked: str) -> None:
    turns = [turn for answer in said for turn in (("user", asked), ("assistant", answer))]
    turns.append(("user", "assistantturn"))  # what stands in for a turn internally must not confuse it
    whole, trained = texts(chat(*turns))
    assert trained == "".join(said)
    assert whole == PLAIN.apply_chat_template([{"role": r, "content": c} for r, c in turns], tokenize=False)


def test_chat_of_a_template_that_trims_turns() -> None:
    trims = tiny_tokenizer()
    trims.chat_template = "{% for m in messages %}<|turn|>{{ m['content'] | trim }}<|end|>{% endfor %}"
    encoded = encode(chat(("user", " a "), ("assistant", " b ")), trims)
    assert trims.decode(encoded.token_id[encoded.trained]) == "b"


def test_chat_of_a_template_that_rewrites_turns_is_refused() -> None:
    rewrites = tiny_tokenizer()
    rewrites.chat_template = "{% for m in messages %}{{ m['content'].split('</think>')[-1] }}{% endfor %}"
    with pytest.raises(BadInput, match="rewrites"):
        encode(chat(("user", "a"), ("assistant", "hm</think>b")), rewrites)


def test_chat_without_a_template_or_with_roles_it_refuses() -> None:
    with pytest.raises(BadInput, match="no chat template"):
        encode(chat(("user", "a"), ("assistant", "b")), tiny_tokenizer(chat=False))
    strict = tiny_tokenizer()
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadInput, match="alternate"):
        encode(chat(("user", "a")), strict)


def test_truncation_is_told() -> None:
    record = Record(id="1", text="abcdef")
    cut = encode(record, PLAIN, max_tokens=4, add_eos=True)
    assert (len(cut), cut.truncated) == (4, True)
    assert cut.token_id.tolist() == encode(record, PLAIN).token_id[:4].tolist()
    assert not encode(record, PLAIN, max_tokens=6).truncated
    with pytest.raises(BadInput):
        encode(record, PLAIN, max_tokens=0)


def test_an_empty_record_is_empty() -> None:
    assert len(encode(Record(id="1", text=""), PLAIN)) == 0


def test_a_tokenizer_without_an_end_is_refused_where_one_is_needed() -> None:
    endless = tiny_tokenizer()
    endless.eos_token = None
    with pytest.raises(BadInput, match="end-of-text"):
        encode(Record(id="1", text="a"), endless, add_eos=True)
