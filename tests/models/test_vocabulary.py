# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from reticent.models.vocabulary import whole_words
from reticent.testing.tiny import tiny_tokenizer


def test_words_are_one_token_after_a_blank() -> None:
    """Of the tiny tokenizer's pieces " orde" (on the way to " order") and " and" have the letters; the others are
    shorter or, as " the", lost to another merge."""
    tokenizer = tiny_tokenizer()
    words = whole_words(tokenizer)
    for word in words:
        assert len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1
    assert "orde" in words
    assert not any(word in words for word in ("eos", "turn", "a"))


@pytest.mark.parametrize("word", ["abc", "Ähre"])
def test_order_is_that_of_the_vocabulary(word: str) -> None:
    """A byte-pair tokenizer that learned " xyz" before the word."""
    spelt = [
        pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(f" {one}")[0][0] for one in ("xyz", word)
    ]
    pieces, merges = sorted(pre_tokenizers.ByteLevel.alphabet()), []
    for one in spelt:
        for end in range(2, len(one) + 1):
            merges.append((one[: end - 1], one[end - 1]))
            pieces.append(one[:end])
    core = Tokenizer(BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    core.decoder = decoders.ByteLevel()
    words = whole_words(PreTrainedTokenizerFast(tokenizer_object=core))
    assert words.index("xyz") < words.index(word)
