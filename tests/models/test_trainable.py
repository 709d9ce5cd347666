# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.data.canaries import Canary, plant, plant_users
from reticent.data.example import help_desk
from reticent.data.split import split
from reticent.models.encode import encode
from reticent.models.trainable import CutPhrases, check_phrases, check_trainable
from reticent.testing.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def secrets(shape: str, kind: str = "passphrase") -> tuple[Canary, ...]:
    shapes = {
        "text": {"text": "x"},
        "pair": {"prompt": "q", "completion": "x"},
        "chat": {"messages": (Message(role="user", content="q"), Message(role="assistant", content="x"))},
    }
    records = [Record(id=str(i), **shapes[shape]) for i in range(40)]
    return plant(records, split(records, unit="record", seed=0), kind=kind, secrets=12, controls=12).canaries


@pytest.mark.parametrize("shape", ["text", "pair", "chat"])
def test_the_longest_secret_decides(shape: str) -> None:
    canaries = secrets(shape)
    longest = max(len(encode(canary.record, TOKENIZER)) for canary in canaries)
    check_trainable(canaries, TOKENIZER, longest)
    check_trainable(canaries, TOKENIZER, None)
    with pytest.raises(BadInput, match=f"--max_tokens {longest} or more"):
        check_trainable(canaries, TOKENIZER, longest - 1)


def test_a_secret_in_the_prompt_is_refused() -> None:
    class Asked(Canary):
        """Its secret, 12, is in the words before."""

        secret = "12"

    canary = replace(secrets("pair")[0], text="the number 12 it is", start=14, end=19)
    check_trainable([canary], TOKENIZER, None)
    with pytest.raises(BadInput, match="not trained on"):
        check_trainable([Asked(**vars(canary))], TOKENIZER, None)


def test_a_tokenizer_that_cannot_tell_secrets_apart_is_refused() -> None:
    words = {word: i for i, word in enumerate(("[UNK]", "the", "secret", "number", "is", "</s>"))}
    core = Tokenizer(WordLevel(vocab=words, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    blind = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", eos_token="</s>")
    with pytest.raises(BadInput, match="same tokens"):
        check_trainable(secrets("text", "secret_number"), blind, None)


def canary_users() -> tuple[tuple[Record, ...], dict[str, str]]:
    mails = help_desk(users=20, mails_per_user=5)
    planting = plant_users(mails, split(mails, unit="user", seed=0), users=5, words=6)
    return planting.records, planting.phrases


def test_phrases_within_the_limit() -> None:
    records, phrases = canary_users()
    assert check_phrases(records, phrases, TOKENIZER, None) == CutPhrases(lost=0, texts=25)
    assert check_phrases(records, phrases, TOKENIZER, 2000) == CutPhrases(lost=0, texts=25)


@pytest.mark.parametrize("limit", [120, 200])
def test_lost_phrases_are_counted_as_reading_what_is_left_counts_them(limit: int) -> None:
    records, phrases = canary_users()
    kept = dict.fromkeys(phrases, 0)
    for record in records:
        if record.user in phrases:
            left = TOKENIZER.decode(encode(record, TOKENIZER, max_tokens=limit).token_id)
            kept[record.user] += phrases[record.user] in left
    assert all(kept.values())
    cut = check_phrases(records, phrases, TOKENIZER, limit)
    assert cut.lost == 25 - sum(kept.values()) > 0


def test_a_user_whose_phrase_never_shows_is_refused() -> None:
    records, phrases = canary_users()
    with pytest.raises(BadInput, match=r"of 5 canary users.*--max_tokens"):
        check_phrases(records, phrases, TOKENIZER, 20)
