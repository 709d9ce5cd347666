# SPDX-License-Identifier: Apache-2.0
"""Pulls: how far one model gives the text of forget rows away, by each of several ways of decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from reticent.attacks.extraction.alignment import edit_distance_to_start
from reticent.attacks.extraction.prompt_prefix import PROMPTS
from reticent.core.progress import progress
from reticent.core.unlearning import AFTER
from reticent.data.coin import uniform
from reticent.models.encode import leading_tokens, opening_tokens
from reticent.score.forward import most_read
from reticent.score.generation.forced import TeacherForced
from reticent.score.generation.generate import make_generations
from reticent.score.generation.sampled_logp import force
from reticent.score.generation.scheme import GREEDY, Scheme
from reticent.unlearning.paraphrases import in_other_words
from reticent.unlearning.verification.check import Visit
from reticent.unlearning.verification.kept_columns import Columns, kept_columns
from reticent.unlearning.verification.passages import Passage, passage

NAME = "extraction"
VERSION = 1
"""Cache version. Increment when this module's output changes for the same inputs."""
MOST = 200
"""Forget rows that are looked at, by hash of their ids."""
GIVEN = 5
"""Tokens of the answer that a prefixed question gives, at most half of it."""
SCHEME = Scheme(temperature=1.0, top_k=40)
"""Decoding of samples: the setting of arXiv:2410.19482."""
OFF_BY = 0.1
"""Share of characters that near-verbatim text may have wrong."""
LOWEST = 0.01
"""Share of the vocabulary that counts as the least likely tokens."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pulls:
    """How far one model gives away ``F`` forget rows.

    Args:
        rows: ``[F]`` places among the forget rows.
        columns: each ``[F]``: ``log_q``, ``greedy``, ``prompted_log_q``, ``prompted_greedy``, ``least``, ``lowest``,
            ``prefixed_log_q``, ``prefixed_greedy``.
        near: ``[F, samples]`` hits of near-verbatim samples; None where none were drawn.
        texts: what greedy decoding writes, where it was asked for.
        reworded_rows: ``[P]`` places among the forget rows of those whose question is there in other words.
        reworded: each ``[P]``: ``log_q`` and ``greedy`` after the other words.
    """

    rows: npt.NDArray[np.int64]
    columns: Columns
    near: Floats | None
    texts: tuple[str, ...] = ()
    reworded_rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    reworded: Columns = field(default_factory=dict)


def read(visit: Visit) -> Pulls:
    """Force the model through the passages, and let it write where that is asked for."""
    tokenizer = visit.loaded.tokenizer
    room = most_read(visit.loaded.model)
    order = sorted(range(len(visit.case.forget)), key=lambda row: uniform(0, NAME, visit.case.forget[row].id))
    chosen: list[tuple[int, Passage]] = []
    for row in order[:MOST]:
        cut = passage(visit.case.forget[row], tokenizer, max_tokens=visit.case.max_tokens, room=room)
        if cut is not None:
            chosen.append((row, cut))
    passages = [cut for _, cut in chosen]
    reworded = _reworded(visit, [row for row, _ in chosen], room)
    texts = visit.about.role == AFTER and visit.config.show_text
    return Pulls(
        rows=np.array([row for row, _ in chosen], dtype=np.int64),
        columns=_columns(visit, passages) if passages else {},
        near=_near(visit, chosen) if passages and visit.config.samples else None,
        texts=tuple(_written(visit, chosen, GREEDY, 1)) if passages and texts else (),
        reworded_rows=np.array([row for row, _ in reworded], dtype=np.int64),
        reworded=_reworded_columns(visit, [cut for _, cut in reworded]) if reworded else {},
    )


def _reworded(visit: Visit, rows: Sequence[int], room: int | None) -> list[tuple[int, Passage]]:
    """Those of the rows whose question is there in other words, cut behind these."""
    words, chosen = visit.case.paraphrases, []
    for row in rows:
        record = visit.case.forget[row]
        if record.id in words:
            other = in_other_words(record, words[record.id])
            cut = passage(other, visit.loaded.tokenizer, max_tokens=visit.case.max_tokens, room=room)
            chosen += [(row, cut)] if cut is not None else []
    return chosen


def _columns(visit: Visit, passages: Sequence[Passage]) -> Columns:
    @cache
    def plain() -> TeacherForced:  # one pass serves both
        return _forced(visit, passages)

    about = _about(visit, passages)
    pulls = kept_columns(visit.cache, "pulls", [*about, list(PROMPTS)], lambda: _pulled(visit, passages, plain))
    rest = kept_columns(visit.cache, "prefixed", [*about, GIVEN], lambda: prefixed(plain()))
    return {**pulls, **rest}


def _reworded_columns(visit: Visit, passages: Sequence[Passage]) -> Columns:
    def make() -> Columns:
        forced = _forced(visit, passages)
        return {"log_q": forced.log_chance, "greedy": _is_greedy(forced)}

    return kept_columns(visit.cache, "reworded", _about(visit, passages), make)


def _about(visit: Visit, passages: Sequence[Passage]) -> list[Any]:
    about = [VERSION, visit.side.key, visit.side.choices.key, torch.__version__, transformers.__version__, SCHEME.key]
    return about + [[cut.given.tolist(), cut.follows.tolist()] for cut in passages]


def _forced(visit: Visit, passages: Sequence[Passage], words: Sequence[int] = ()) -> TeacherForced:
    """The model forced through the passages, each after an attacker's words."""
    side = visit.side
    engine = side.engine  # opened outside of the context below: PEFT's does not nest
    with progress(f"Pulling ({side.name})", len(passages), unit="texts") as advance, side.answering():
        return force(engine, [cut.after(words) for cut in passages], SCHEME, advance)


def _is_greedy(forced: TeacherForced) -> Floats:
    return (forced.sum(forced.rank != 0) == 0).astype(np.float64)


def _pulled(visit: Visit, passages: Sequence[Passage], plain: Callable[[], TeacherForced]) -> dict[str, Floats]:
    tokenizer, vocabulary = visit.loaded.tokenizer, visit.side.engine.forward.vocabulary
    lead = len(leading_tokens(tokenizer))
    forced = plain()
    prompted = [_forced(visit, passages, opening_tokens(prompt, tokenizer)[lead:]) for prompt in PROMPTS]
    last = forced.rank == vocabulary - 1
    return {
        "least": (forced.sum(~last) == 0).astype(np.float64),
        "lowest": forced.sum(forced.rank >= (1 - LOWEST) * vocabulary) / forced.lengths,
        "log_q": forced.log_chance,
        "greedy": _is_greedy(forced),
        "prompted_log_q": np.max([after.log_chance for after in prompted], axis=0),
        "prompted_greedy": np.max([_is_greedy(after) for after in prompted], axis=0),
    }


def prefixed(forced: TeacherForced) -> dict[str, Floats]:
    """The rest of each passage where its first tokens are given: `GIVEN`, or half of them where they are few."""
    given = np.minimum(GIVEN, forced.lengths // 2)
    place = np.arange(int(forced.offsets[-1])) - np.repeat(forced.offsets[:-1], forced.lengths)
    rest = place >= np.repeat(given, forced.lengths)
    return {
        "prefixed_log_q": forced.sum(np.where(rest, forced.sampled_logp, 0.0)),
        "prefixed_greedy": (forced.sum(rest & (forced.rank != 0)) == 0).astype(np.float64),
    }


def _written(visit: Visit, chosen: Sequence[tuple[int, Passage]], scheme: Scheme, samples: int) -> list[str]:
    generations = make_generations(
        visit.side,
        [cut.given for _, cut in chosen],
        max_new_tokens=[len(cut.follows) + 4 for _, cut in chosen],
        samples=samples,
        scheme=scheme,
        seed=visit.config.seed,
        keys=[visit.case.forget[row].id for row, _ in chosen],
        cache=visit.cache,
        title="Continuing" if scheme.greedy else "Sampling",
    )
    return generations.texts(visit.loaded.tokenizer)


def _near(visit: Visit, chosen: Sequence[tuple[int, Passage]]) -> Floats:
    """``[F, samples]``: 1 where a sample has at most a tenth of the characters wrong."""
    samples = visit.config.samples
    texts = _written(visit, chosen, SCHEME, samples)
    hits = np.zeros((len(chosen), samples))
    for place, (_, cut) in enumerate(chosen):
        true = str(visit.loaded.tokenizer.decode(cut.follows.tolist(), skip_special_tokens=True))
        for sample in range(samples):
            distance = edit_distance_to_start(true, texts[place * samples + sample])
            hits[place, sample] = float(distance <= OFF_BY * len(true))
    return hits
