# SPDX-License-Identifier: Apache-2.0
"""What is trained on of a chat, by templates of the forms that models come with."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.models.encode import encode
from reticent.testing.tokenizers import tokenizer_of_kind

MARKS = ("<|im_start|>", "<|im_end|>", "<|eot|>", "[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|return|>")
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|turn|>' + m.role + '\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}"
)
PHI = CHATML + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
ALPACA = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '### Instruction:\n' + m.content + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + m.content + '\n\n' }}{% endif %}{% endfor %}"
)
VICUNA = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
GLM = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}"
HARMONY = (
    "{% for m in messages %}{{ '<|turn|>' + m.role + '\n' + m.content }}"
    "{% if loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
)
PLAIN_END = (
    "{% for m in messages %}{{ '### ' + m.role + '\n' + m.content + '\n### End' + eos_token + '\n' }}{% endfor %}"
)
QWEN3 = (
    "{%- for m in messages %}{%- if m.role == 'assistant' %}{%- set c = m.content %}{%- set think = '' %}"
    "{%- if '</think>' in c %}{%- set think = c.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{%- set c = c.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{%- if loop.last %}{{ '<|im_start|>assistant\\n<think>\\n' + think + '\\n</think>\\n\\n' + c }}"
    "{%- else %}{{ '<|im_start|>assistant\\n' + c }}{%- endif %}{{ '<|im_end|>\\n' }}"
    "{%- else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
)
TWO = (("user", "Hi"), ("assistant", "Hello Ann."), ("user", "Bye"), ("assistant", "Good bye."))


def tokenizer(template: str, kind: str = "byte_level", marks: tuple[str, ...] = MARKS) -> PreTrainedTokenizerFast:
    return tokenizer_of_kind(kind, template=template, more=marks)


def chat(*turns: tuple[str, str], **more: object) -> Record:
    return Record(id="c", messages=tuple(Message(role=role, content=said) for role, said in turns), **more)  # type: ignore[arg-type]


def trained(of: PreTrainedTokenizerFast, *turns: tuple[str, str], add_eos: bool = True) -> str:
    """The trained part; the whole has to be what the template says, but for an end-of-text token."""
    row = encode(chat(*turns), of, add_eos=add_eos)
    said = [{"role": role, "content": content} for role, content in turns]
    ids = of.apply_chat_template(said, tokenize=True, return_dict=True)["input_ids"]
    assert row.token_id.tolist() in (ids, [*ids, of.eos_token_id])
    return str(of.decode(row.token_id[row.trained], clean_up_tokenization_spaces=False))


ENDS = {
    "chatml": (CHATML, "Hello Ann.<|im_end|>Good bye.<|im_end|>"),
    "llama 2": (LLAMA2, "Hello Ann. </s>Good bye. </s>"),
    "mistral": (MISTRAL, "Hello Ann.</s>Good bye.</s>"),
    "llama 3": (LLAMA3, "Hello Ann.<|eot|>Good bye.<|eot|>"),
    "phi": (PHI, "Hello Ann.<|im_end|>Good bye.<|im_end|>"),
    "alpaca": (ALPACA, "Hello Ann.Good bye.\n\n</s>"),
    "vicuna": (VICUNA, "Hello Ann.</s>Good bye.</s>"),
    "glm": (GLM, "Hello Ann.<|user|>Good bye.</s>"),
    "harmony": (HARMONY, "Hello Ann.<|end|>Good bye.<|return|>"),
    "words and a token": (PLAIN_END, "Hello Ann.\n### End</s>Good bye.\n### End</s>"),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_every_answer_is_trained_on_and_never_scored(name: str) -> None:
    template, wanted = ENDS[name]
    of = tokenizer(template)
    assert trained(of, *TWO) == wanted
    assert trained(of, *TWO, add_eos=False) == "Hello Ann.Good bye."
    one = trained(of, *TWO[:2])
    assert len(one) > len("Hello Ann.")
    assert one.startswith("Hello Ann.")


def test_marks_in_plain_words_are_trained_on() -> None:
    """ChatML put on a model that has no such tokens."""
    of = tokenizer(CHATML, marks=())
    assert trained(of, *TWO) == "Hello Ann.<|im_end|>Good bye.<|im_end|>"
    assert trained(of, *TWO[:3]) == "Hello Ann.<|im_end|>"
    assert trained(of, *TWO, add_eos=False) == "Hello Ann.Good bye."


def test_what_cannot_be_ended_is_warned_of_by_name() -> None:
    of = tokenizer(ALPACA)
    of.name_or_path = "some/model"
    with pytest.warns(UserWarning, match="chat template of some/model puts nothing behind an answer"):
        assert trained(of, *TWO[:3]) == "Hello Ann."
    of.eos_token = None
    with pytest.warns(UserWarning, match="some/model"):
        encode(chat(*TWO), of, add_eos=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(chat(*TWO[:3]), of)  # scoring ends nothing


@pytest.mark.parametrize("kind", ["metaspace_first", "metaspace_always", "prepend", "replace", "unigram", "wordpiece"])
@pytest.mark.parametrize("name", ENDS)
def test_ends_with_other_kinds_of_tokenizers(name: str, kind: str) -> None:
    of = tokenizer(ENDS[name][0], kind)
    assert len(trained(of, *TWO)) > len(trained(of, *TWO, add_eos=False))


THINKING = "<think>\nAnn is kind\n</think>\n\nHello Ann."


@pytest.mark.parametrize("kind", ["byte_level", "metaspace_first", "tekken"])
def test_reasoning_of_the_last_turn_is_trained_on(kind: str) -> None:
    of = tokenizer(QWEN3, kind)
    assert trained(of, ("user", "Hi"), ("assistant", THINKING)) == THINKING + "<|im_end|>"
    assert trained(of, *TWO[:3], ("assistant", THINKING)) == "Hello Ann.<|im_end|>" + THINKING + "<|im_end|>"
    without = trained(of, ("user", "Hi"), ("assistant", "Ann is kind\n</think>\n\nHello Ann."))
    assert without.lstrip("\n") == "Ann is kind\n</think>\n\nHello Ann.<|im_end|>"


def test_reasoning_that_the_template_drops_is_refused() -> None:
    of = tokenizer(QWEN3)
    with pytest.raises(BadInput, match="rewrites"):
        encode(chat(("user", "Hi"), ("assistant", THINKING), ("user", "Bye"), ("assistant", "Good bye.")), of)


def test_spans_within_reasoning_are_found() -> None:
    of = tokenizer(QWEN3)
    plain = chat(("user", "Hi Bob"), ("assistant", THINKING)).plain
    for secret in ("Bob", "kind", "Hello", "kind\n</think>\n\nHello"):
        at = plain.index(secret)
        row = encode(
            chat(("user", "Hi Bob"), ("assistant", THINKING), spans=(Span(start=at, end=at + len(secret), kind="X"),)),
            of,
            mark_spans=True,
        )
        assert of.decode(row.token_id[row.marked]).strip() == secret


def test_spans_in_what_the_template_drops_are_refused() -> None:
    drops = tokenizer(
        "{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'assistant' %}{{ m.content }}{% endif %}"
        "{{ '\n' }}{% endfor %}"
    )
    turns = (("user", "ask Bob"), ("assistant", "Hello Ann."))
    assert not encode(chat(*turns, spans=()), drops, mark_spans=True).marked.any()  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="spans cannot be found"):
        encode(chat(*turns, spans=(Span(start=4, end=7, kind="X"),)), drops, mark_spans=True)


def test_a_template_is_taken_at_its_word_about_what_the_assistant_says() -> None:
    only_last = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if loop.last %}{% generation %}"
        "{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}"
        "{{ '\n' }}{% endfor %}"
    )
    of = tokenizer(only_last)
    assert trained(of, *TWO) == "Good bye.<|im_end|>"
    assert trained(of, *TWO, add_eos=False) == "Good bye."
    upper = only_last.replace(
        "{{ m.content + '<|im_end|>' }}{% endgen", "{{ m.content | upper + '<|im_end|>' }}{% endgen"
    )
    of = tokenizer(upper)  # rewritten, and the template itself says where
    assert trained(of, *TWO) == "GOOD BYE.<|im_end|>"
    assert trained(of, *TWO, add_eos=False) == "GOOD BYE."


def test_an_end_outside_of_what_the_template_names_is_trained_on() -> None:
    of = tokenizer(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    )
    assert trained(of, *TWO) == "Hello Ann.<|im_end|>Good bye.<|im_end|>"


WORDS = st.text(alphabet="the ordé\n<>/k", max_size=12)


@settings(deadline=None, max_examples=60)
@given(asked=WORDS, thought=WORDS, said=WORDS)
def test_whatever_is_thought(asked: str, thought: str, said: str) -> None:
    """Marked exactly, or refused; never a mask of something else."""
    of = tokenizer_of(QWEN3)
    answer = f"<think>\n{thought}\n</think>\n\n{said}"
    try:
        found = trained(of, ("user", asked), ("assistant", answer), add_eos=False)
    except BadInput:
        return
    whole = of.apply_chat_template(
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], tokenize=False
    )
    body = whole.split("<|im_start|>assistant\n", 1)[1].removesuffix("<|im_end|>\n")
    assert found.strip() in body
    for words in (thought.strip(), said.strip()):
        assert words in found or not words


_OF: dict[str, PreTrainedTokenizerFast] = {}


def tokenizer_of(template: str) -> PreTrainedTokenizerFast:
    return _OF.setdefault(template, tokenizer(template))
