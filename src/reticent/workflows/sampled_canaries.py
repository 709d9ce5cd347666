# SPDX-License-Identifier: Apache-2.0
"""Canaries that the public model writes itself, at a high temperature: texts like the data that nobody wrote.

A text that is drawn from all of what a model finds possible reads like text, so a synthesis takes it up as it takes up
the data; and each is unlikely enough that one that was learned can be told from one that was not (arXiv:2606.10481,
which proposes a temperature of 0.8 or more and prompts made for the data). The model is public and so are the words
that it goes on with: no record changes any of these texts, so they can be read, kept and repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.user_cache import user_cache
from reticent.data.canaries import Planting
from reticent.data.words import units

KIND = "high_temperature"
DRAWN_AS = "passphrase"
"""Kind of the secrets that lend their coins; it has more of them than anybody plants."""
TEMPERATURE = 1.0
"""The model's own distribution, with no token left out: of 0.8 and more the one whose entropy is known."""
TOKENS = 32
FEWEST_WORDS = 3
"""Texts of fewer are no texts of their own."""
ROUNDS = 8
MOST_BITS = 1000.0
ASKED = "A text:"
"""Words before a completion where no public prompt is known."""


@dataclass(frozen=True, kw_only=True)
class SampledText:
    """A text that the model wrote.

    Args:
        opening: public words before it.
        text: without blanks at its ends.
        bits: -log2 of its probability.
    """

    opening: str
    text: str
    bits: float


def openings_of(kind: str) -> tuple[str, ...] | None:
    """The public words that texts are written after, as the name of a kind has them; None for another kind.

    Args:
        kind: ``high_temperature``, alone or with words in brackets, a bar between two.

    Raises:
        BadInput: brackets without words, or none that close.

    >>> openings_of("high_temperature(A mail about parcels:|A mail about refunds:)")
    ('A mail about parcels:', 'A mail about refunds:')
    >>> openings_of(KIND), openings_of("secret_number")
    ((), None)
    """
    if not kind.startswith(KIND):
        return None
    rest = kind.removeprefix(KIND)
    if not rest:
        return ()
    words = tuple(part.strip() for part in rest[1:-1].split("|"))
    if rest[0] != "(" or rest[-1] != ")" or not all(words):
        raise BadInput(
            f"canary_kind={kind!r}",
            "has no words in its brackets",
            f"Give {KIND}, or {KIND}(A mail to a shop:) with public words that begin what the model writes.",
        )
    return words


def kind_after(openings: Sequence[str]) -> str:
    """The name of the kind with these words; without any, of texts from nothing.

    Raises:
        BadInput: words with a bar in them.

    >>> kind_after(["A mail:"]), kind_after([])
    ('high_temperature(A mail:)', 'high_temperature')
    """
    with_bar = next((words for words in openings if "|" in words), None)
    if with_bar is not None:
        raise BadInput(f"{with_bar!r}", f"has a bar in it, which parts the words of {KIND}", "Leave the bar out.")
    return f"{KIND}({'|'.join(openings)})" if openings else KIND


def sampled_planting(planting: Planting, *, base: str, openings: Sequence[str], max_tokens: int, seed: int) -> Planting:
    """The same coins, tiers and copies, with texts that ``base`` wrote in place of the secrets.

    Args:
        planting: secrets of the kind `DRAWN_AS`.
        base: the public model: it has seen none of the data.
        openings: public words that texts are written after, in turn; none for texts from nothing. In records of a
            prompt and a completion they are the prompts, else they are no part of a secret.
        max_tokens: a text that would be cut is not taken.
        seed: of the sampling.

    Raises:
        BadInput: the model writes too few texts that differ.
    """
    from reticent.models.load import load

    loaded = load(base)
    shape = planting.canaries[0].shape
    texts = sampled_texts(
        loaded, count=len(planting.canaries), openings=openings, max_tokens=max_tokens, seed=seed, shape=shape
    )
    return dressed(planting, texts)


def dressed(planting: Planting, texts: Sequence[SampledText]) -> Planting:
    """``planting`` with its coins, and other texts.

    Args:
        planting: of any kind.
        texts: one for each of its secrets, in their order; of equal entropy, as far as anybody knows.
    """
    space = int(2.0 ** min(sum(text.bits for text in texts) / len(texts), MOST_BITS))
    prefix = f"canary/{planting.canaries[0].kind}/"
    new = {
        canary.id: replace(
            canary,
            id=f"canary/{KIND}/{canary.id.removeprefix(prefix)}",
            kind=KIND,
            text=_before(text, canary.shape) + text.text,
            start=len(_before(text, canary.shape)),
            end=None,
            space=space,
        )
        for canary, text in zip(planting.canaries, texts, strict=True)
    }
    copies = []
    for copy in planting.to_train:
        name, _, number = copy.id.rpartition("/copy")
        canary = new[name]
        user = None if copy.user is None else canary.id
        copies.append(replace(canary.record, id=f"{canary.id}/copy{number}", user=user))
    return Planting(canaries=tuple(new.values()), to_train=tuple(copies))


def sampled_texts(
    loaded: Any, *, count: int, openings: Sequence[str], max_tokens: int, seed: int, shape: str
) -> list[SampledText]:
    """``count`` texts of the model that differ as it reads them, each of a few words at least.

    What was written is kept, so that a run that goes on plants the same.

    Args:
        loaded: a `LoadedModel`.
        count: how many.
        openings: public words before each, in turn.
        max_tokens: a text with more tokens, all of the record counted, is not taken.
        seed: of the sampling.
        shape: of the records that they become.

    Raises:
        BadInput: too few that differ came up.
    """
    from reticent.models.encode import encode, opening_tokens
    from reticent.score.engine import ScoreOptions
    from reticent.score.generation.generate import make_generations
    from reticent.score.generation.scheme import Scheme
    from reticent.score.make_tables import ScoredModel

    side = ScoredModel(loaded=loaded, off=False, options=ScoreOptions())
    tokenizer, words = loaded.tokenizer, tuple(openings) or ("",)
    behind = "\n" if shape == "text" and openings else ""
    starts = [opening_tokens(opening + behind, tokenizer) or [_blank(tokenizer)] for opening in words]
    by_tokens: dict[bytes, SampledText] = {}
    for number in range(ROUNDS):
        places = range(number * count, (number + 1) * count)
        generations = make_generations(
            side,
            [starts[place % len(words)] for place in places],
            max_new_tokens=min(TOKENS, max_tokens),
            scheme=Scheme(temperature=TEMPERATURE),
            seed=seed,
            keys=[f"{KIND} {place}" for place in places],
            cache=user_cache() / "tables",
            title="Writing canaries",
        )
        for index, (place, plain) in enumerate(zip(places, generations.texts(tokenizer), strict=True)):
            logp = generations.logp[generations.offsets[index] : generations.offsets[index + 1]]
            text = SampledText(
                opening=words[place % len(words)], text=plain.strip(), bits=float(-logp.sum() / math.log(2))
            )
            row = encode(_record(text, shape), tokenizer)
            if len(units(text.text)) >= FEWEST_WORDS and len(row) <= max_tokens:
                by_tokens.setdefault(row.token_id.tobytes(), text)
        if len(by_tokens) >= count:
            return list(by_tokens.values())[:count]
    raise BadInput(
        f"{count} secrets of kind {KIND!r}",
        f"the model wrote only {len(by_tokens)} texts that differ, have {FEWEST_WORDS} words and fit into {max_tokens} "
        "tokens",
        "Ask for fewer (--canaries, --canary_controls), raise --max_tokens, or choose another kind.",
    )


def refuse_taken(records: Sequence[Record]) -> None:
    """Refuse ids that these canaries need.

    Raises:
        BadInput: a record has one.
    """
    clash = next((record.id for record in records if record.id.startswith(f"canary/{KIND}/")), None)
    if clash is not None:
        raise BadInput(f"the id {clash!r}", "begins as those of canaries do", "Rename the record.")


def _before(text: SampledText, shape: str) -> str:
    """Words that lead to the secret: a prompt where records have one, and else none: openings are no part of texts."""
    if shape == "text":
        return ""
    return f"{text.opening or ASKED} "


def _record(text: SampledText, shape: str) -> Record:
    from reticent.data.canaries import Canary

    before = _before(text, shape)
    about = {"id": "", "kind": KIND, "repetitions": 0, "planted": False, "space": 1, "probability": 0.0}
    return Canary(text=before + text.text, start=len(before), shape=shape, **about).record  # type: ignore[arg-type]


def _blank(tokenizer: Any) -> int:
    """A token for a text of none."""
    marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return next((int(token) for token in marks if token is not None), 0)
