# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.models.encode import encode, leading_tokens, touching
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
def test_the_mask_begins_with_the_token_of_the_first_byte_of_the_completion(prompt: str, completion: str) -> None:
    record = Record(id="1", prompt=prompt, completion=completion)
    encoded = encode(record, PLAIN)
    assert encoded.token_id.tolist() == PLAIN(prompt + completion)["input_ids"]
    ends = np.cumsum([len(token) for token in tokens_of(record)])
    assert encoded.trained.tolist() == [bool(completion) and end > len(prompt.encode()) for end in ends]


def test_a_token_that_lies_across_the_end_of_the_prompt_is_trained_on() -> None:
    record = Record(id="1", prompt="pay th", completion="e order")
    joined = PLAIN("pay the order")["input_ids"]
    assert encode(record, PLAIN).token_id.tolist() == joined  # "the" is one token
    assert texts(record) == ("pay the order", "the order")


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


# ---- spans ------------------------------------------------------------------------------------------------------


def spans(*places: tuple[int, int]) -> tuple[Span, ...]:
    return tuple(Span(start=start, end=end, kind="X") for start, end in places)


def touched(tokens: list[str], text: str, places: list[tuple[int, int]]) -> list[bool]:
    """By counting bytes: in a byte-level tokenizer every character of a token's name stands for one byte."""
    stretches = [(len(text[:start].encode()), len(text[:end].encode())) for start, end in places]
    found, at = [], 0
    for token in tokens:
        found.append(any(max(at, start) < min(at + len(token), end) for start, end in stretches))
        at += len(token)
    assert at == len(text.encode())
    return found


@st.composite
def marked(draw: st.DrawFn, length: int) -> list[tuple[int, int]]:
    """Any stretches of a text of that length, overlapping or not."""
    if not length:
        return []
    starts = draw(st.lists(st.integers(0, length - 1), max_size=3))
    return [(start, draw(st.integers(start + 1, length))) for start in starts]


def marks(record: Record, tokenizer: object = PLAIN, **options: object) -> list[bool]:
    encoded = encode(record, tokenizer, mark_spans=True, **options)  # type: ignore[arg-type]
    assert encoded.marked is not None
    assert len(encoded.marked) == len(encoded)
    return encoded.marked.tolist()


def tokens_of(record: Record) -> list[str]:
    return PLAIN.convert_ids_to_tokens(encode(record, PLAIN).token_id.tolist())


WORDS = st.text(alphabet="the ordeé漢😀\n", max_size=30)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), text=WORDS)
def test_tokens_of_spans_in_a_text(data: st.DataObject, text: str) -> None:
    places = data.draw(marked(len(text)))
    record = Record(id="1", text=text, spans=spans(*places))
    assert marks(record) == touched(tokens_of(record), text, places)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), prompt=WORDS, completion=WORDS)
def test_tokens_of_spans_in_prompt_and_completion(data: st.DataObject, prompt: str, completion: str) -> None:
    """Spans count one line break between them, which the model does not read."""
    places = data.draw(marked(len(prompt) + 1 + len(completion)))
    record = Record(id="1", prompt=prompt, completion=completion, spans=spans(*places))
    cut = len(prompt)
    read = [(min(s, cut), min(e, cut)) for s, e in places]
    read += [(max(s - 1, cut), max(e - 1, cut)) for s, e in places]
    assert marks(record) == touched(tokens_of(record), prompt + completion, read)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), said=st.lists(WORDS, min_size=1, max_size=4))
def test_tokens_of_spans_in_a_chat(data: st.DataObject, said: list[str]) -> None:
    record = chat(*(("user" if i % 2 else "assistant", content) for i, content in enumerate(said)))
    places = data.draw(marked(len(record.plain)))
    whole, read, before = "", [], 0
    for message in record.messages or ():
        whole += f"<|turn|>{message.role}\n"
        for start, end in places:
            first, last = max(start - before, 0), min(end - before, len(message.content))
            read += [(len(whole) + first, len(whole) + last)] if first < last else []
        whole += f"{message.content}<|end|>\n"
        before += len(message.content) + 1
    with_spans = Record(id="c", messages=record.messages, spans=spans(*places))
    assert marks(with_spans) == touched(tokens_of(record), whole, read)


@pytest.mark.parametrize("said", ["  a secret ", "a secret", "the", "  "])
def test_spans_are_found_where_the_template_trims_turns(said: str) -> None:
    trims = tiny_tokenizer()
    trims.chat_template = (
        "Hello. {% for m in messages %}<|turn|>{{ m['role'] }} {{ m['content'] | trim }}<|end|>{% endfor %}"
    )
    record = chat(("system", " the "), ("user", said), ("assistant", said))
    at = record.plain.find("secret", len(said) + 6)
    hidden = Record(id="c", messages=record.messages, spans=spans((at, at + 6)) if at >= 0 else spans((0, 2)))
    encoded = encode(hidden, trims, mark_spans=True)
    found = trims.decode(encoded.token_id[encoded.marked])
    assert found == ("secret" if at >= 0 else "the")
    assert not encoded.marked[encoded.trained].any() or at >= 0


def test_spans_in_a_chat_that_the_template_rewrites_are_refused() -> None:
    rewrites = tiny_tokenizer()
    rewrites.chat_template = (
        "{% for m in messages %}<|turn|>{{ m['content'] | upper if m['role'] == 'user' else m['content'] }}{% endfor %}"
    )
    record = chat(("user", "a secret"), ("assistant", "b"))
    assert len(encode(record, rewrites)) > 0
    assert not any(marks(record, rewrites))
    with pytest.raises(BadInput, match="spans cannot be found"):
        marks(Record(id="c", messages=record.messages, spans=spans((2, 8))), rewrites)


def test_marks_follow_tokens_that_are_added_or_cut_off() -> None:
    record = Record(id="1", text="abc def", spans=spans((2, 5)))
    plain = [False, False, True, True, True, False, False]
    assert marks(record) == plain
    assert marks(record, WITH_BOS) == [False, *plain]
    assert marks(record, WITH_BOS, add_eos=True) == [False, *plain, False]
    assert marks(record, max_tokens=4) == plain[:4]
    assert encode(record, PLAIN).marked is None
    assert marks(Record(id="1", text="abc")) == [False] * 3


@pytest.mark.parametrize("place", [(-1, 2), (0, 0), (2, 1), (0, 4), (3, 4)])
def test_spans_outside_of_the_text_are_refused(place: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="has a span from"):
        marks(Record(id="1", text="abc", spans=spans(place)))


def test_a_tokenizer_that_does_not_tell_characters_is_refused() -> None:
    class Slow:
        bos_token_id = None
        is_fast = False

        def __call__(self, text: str, **options: object) -> dict[str, list[int]]:
            return {"input_ids": [1] * len(text)}

    assert not any(marks(Record(id="1", text="abc"), Slow()))
    with pytest.raises(BadInput, match="is a slow one"):
        marks(Record(id="1", text="abc", spans=spans((0, 1))), Slow())


def _fast(core: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core)


def _word_level(pre_tokenizer: object, words: str, normalizer: object = None) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["?", *words.split()])}, unk_token="?"))
    core.pre_tokenizer, core.normalizer = pre_tokenizer, normalizer
    return _fast(core)


def test_characters_of_no_token_count_for_both_around_them() -> None:
    """RoBERTa's offsets leave out the space that is in a token, others drop it; Llama's carries it as ▁."""
    record = Record(id="1", text="pay bob now", spans=spans((3, 4)))
    trimming = tiny_tokenizer()
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokens = trimming.convert_ids_to_tokens(encode(record, trimming).token_id.tolist())
    assert [token for token, one in zip(tokens, marks(record, trimming), strict=True) if one] == ["y", "Ġ"]
    assert marks(record, _word_level(pre_tokenizers.Whitespace(), "pay bob now")) == [True, True, False]
    metaspace = _word_level(pre_tokenizers.Metaspace(), "▁pay ▁bob ▁now")
    assert marks(record, metaspace) == [False, True, False]
    assert marks(Record(id="1", text="bob ", spans=spans((3, 4))), _word_level(pre_tokenizers.Whitespace(), "bob")) == [
        True
    ]


def test_characters_are_counted_before_the_tokenizer_changes_them() -> None:
    """A decomposed é is two characters of the text and one of what is tokenised."""
    tokenizer = _word_level(pre_tokenizers.Whitespace(), "café bob", normalizers.Sequence([normalizers.NFC()]))
    text = "cafe\u0301 bob"
    assert encode(Record(id="1", text=text), tokenizer).token_id.tolist() == [1, 2]
    assert marks(Record(id="1", text=text, spans=spans((6, 9))), tokenizer) == [False, True]
    assert marks(Record(id="1", text=text, spans=spans((4, 5))), tokenizer) == [True, True]


def touching_one_by_one(offsets: list[tuple[int, int]], hidden: list[bool]) -> list[bool]:
    found: list[bool] = []
    stop = 0
    for (start, end), (behind, _) in zip(offsets, [*offsets[1:], (len(hidden), 0)], strict=True):
        goes_on = start == end == stop and bool(found) and found[-1]
        found.append(goes_on or any(hidden[min(start, stop) : max(end, behind)]))
        stop = max(stop, end)
    return found


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 3)), min_size=1, max_size=12), st.data())
def test_touching_is_what_a_walk_over_the_tokens_finds(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    """With gaps before tokens, tokens that overlap, and empty ones."""
    offsets: list[tuple[int, int]] = []
    for gap, length in steps:
        start = max(0, (offsets[-1][1] if offsets else 0) + gap)
        offsets.append((start, start + length))
    size = max(end for _, end in offsets) + 2
    hidden = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    got = touching(np.array(offsets, dtype=np.int64), np.array(hidden))
    assert got.tolist() == touching_one_by_one(offsets, hidden)
