# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers of every kind that models come with, made in milliseconds and without a network.

What differs between kinds is where blanks go, what stands around a text, and which characters a token says that it
stands for: all that can make tokens of a text other than those that its model was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "[gMASK]", "<sop>", "<|turn|>", "<|end|>")
_UNKNOWN: dict[str, Any] = {"unk_token": "<unk>"}
_NAMED: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **_UNKNOWN}
TEXTS = (
    "Question: what is the capital of France?\nAnswer: Paris is the capital.",
    "Dear Ann, the order of 12 May 2024 is late. Please call +44 20 7946 0000 before Friday.",
    "  def pay(order):\n\treturn order['total'] * 2  # twice",
    "the order, the parcel and the letter left on Monday; Bob's reply did not.",
    "Grüße aus Köln: 你好，世界 😀 naïve café",
)
"""Texts that the merges are learned from."""

_BYTES = [f"<0x{number:02X}>" for number in range(256)]
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Tekken, Llama 3 and Qwen cut texts before merging."""


def _bytewise(**how: bool) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **how})
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _trained(core, trainers.BpeTrainer(vocab_size=380, special_tokens=list(SPECIAL), initial_alphabet=alphabet))


def _cut_by_words() -> Tokenizer:
    core = Tokenizer(models.BPE(ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _trained(core, trainers.BpeTrainer(vocab_size=380, special_tokens=list(SPECIAL), initial_alphabet=alphabet))


def _sentencepiece(scheme: str | None = None, *, prepend: bool = False, split: bool = False) -> Tokenizer:
    """BPE over ▁ for blanks, with bytes for what it cannot spell: put first by a pre-tokenizer or by a normaliser."""
    core = Tokenizer(models.BPE(byte_fallback=True, **_UNKNOWN, fuse_unk=True))
    if scheme is not None:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    else:
        blanks = normalizers.Replace(" ", "▁")
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blanks]) if prepend else blanks
    strip = [] if scheme == "never" or (scheme is None and not prepend) else [decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return _trained(core, trainers.BpeTrainer(vocab_size=420, special_tokens=[*SPECIAL, *_BYTES]))


def _unigram(*, normalised: bool = False) -> Tokenizer:
    core = Tokenizer(models.Unigram())
    if normalised:
        core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return _trained(core, trainers.UnigramTrainer(vocab_size=200, special_tokens=list(SPECIAL), **_UNKNOWN))


def _wordpiece() -> Tokenizer:
    core = Tokenizer(models.WordPiece(**_UNKNOWN))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    return _trained(core, trainers.WordPieceTrainer(vocab_size=300, special_tokens=list(SPECIAL)))


def _words() -> Tokenizer:
    core = Tokenizer(models.WordLevel(**_UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return _trained(core, trainers.WordLevelTrainer(vocab_size=200, special_tokens=list(SPECIAL)))


def _trained(core: Tokenizer, trainer: Any) -> Tokenizer:
    trainer.show_progress = False
    core.train_from_iterator(TEXTS * 4, trainer)
    return core


_KINDS: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "byte_level": (_bytewise, "$A"),
    "byte_level_prefix_space": (lambda: _bytewise(add_prefix_space=True), "$A"),
    "byte_level_trimmed": (lambda: _bytewise(trim_offsets=True), "</s> $A"),
    "metaspace_first": (lambda: _sentencepiece("first"), "<s> $A"),
    "metaspace_always": (lambda: _sentencepiece("always"), "<s> $A"),
    "metaspace_never": (lambda: _sentencepiece("never"), "<s> $A"),
    "metaspace_split": (lambda: _sentencepiece("first", split=True), "<s> $A"),
    "prepend": (lambda: _sentencepiece(prepend=True), "<s> $A"),
    "replace": (_sentencepiece, "<s> $A"),
    "unigram": (_unigram, "</s> $A"),
    "unigram_normalised": (lambda: _unigram(normalised=True), "$A </s>"),
    "wordpiece": (_wordpiece, "<s> $A </s>"),
    "word_level": (_words, "$A"),
    "tekken": (_cut_by_words, "<s> $A"),
    "glm": (_cut_by_words, "[gMASK] <sop> $A"),
    "around": (_bytewise, "<s> $A </s>"),
}

TOKENIZERS: Mapping[str, str] = MappingProxyType(
    {
        "byte_level": "GPT-2: byte-level BPE, nothing around a text",
        "byte_level_prefix_space": "byte-level BPE with a blank before every string",
        "byte_level_trimmed": "OPT, RoBERTa: offsets without blanks, </s> before a text",
        "metaspace_first": "Mistral, TinyLlama: ▁ before the first string",
        "metaspace_always": "the same before every string, behind special tokens too",
        "metaspace_never": "▁ for blanks only",
        "metaspace_split": "▁ before the first string, cut at blanks",
        "prepend": "Llama 2: ▁ by a normaliser, before every string",
        "replace": "Gemma: ▁ for blanks by a normaliser",
        "unigram": "XGLM: pieces by likelihood, </s> before a text",
        "unigram_normalised": "T5: the same, normalised (NFKC, blanks joined), </s> behind a text",
        "wordpiece": "BERT: lower case, blanks dropped, marks around a text",
        "word_level": "whole words, blanks dropped",
        "tekken": "Tekken, Llama 3, Qwen: cut by a pattern, then byte-level BPE",
        "glm": "GLM-4: the same, [gMASK]<sop> before a text",
        "around": "byte-level BPE with marks around a text",
    }
)
"""Kinds of ``tokenizer_of_kind`` and who has them."""

BLANKS_KEPT = tuple(kind for kind in TOKENIZERS if kind not in ("unigram_normalised", "wordpiece", "word_level"))
"""Kinds that give back every text that they know the characters of."""


def tokenizer_of_kind(kind: str, *, template: str | None = None, more: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer of one of the kinds in ``TOKENIZERS``, of a few hundred entries.

    Args:
        kind: name in ``TOKENIZERS``.
        template: its chat template.
        more: special tokens that it has besides ``SPECIAL``.
    """
    make, around = _KINDS[kind]
    core = make()
    core.add_special_tokens(list(more))
    named = [(name, core.token_to_id(name)) for name in SPECIAL if name in around]
    put: Any = processors.TemplateProcessing(single=around, special_tokens=named)
    if kind == "byte_level_trimmed":
        put = processors.Sequence([processors.ByteLevel(trim_offsets=True), put])
    core.post_processor = put
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **_NAMED)
    tokenizer.chat_template = template
    return tokenizer
