# SPDX-License-Identifier: Apache-2.0
"""Extraction: does the text of the forget rows come out, by any of several ways of decoding?

A row is cut into what an attacker gives and what must follow: prompt and answer where it has them, else its first half
and what follows, up to ``LONGEST`` tokens. One teacher-forced pass tells greedy decoding exactly, and the probability q
of one sample too, so that leak@k = 1 - (1 - q)^k has no sampling noise. A decoder that picks the least likely token
each time gets back what was made *too* unlikely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from reticent.attacks.extraction.alignment import edit_distance_to_start
from reticent.attacks.extraction.prompt_prefix import PROMPTS
from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.progress import progress
from reticent.core.record import Record
from reticent.core.section import Cell, Column, Section, Table
from reticent.core.unlearning import AFTER, Measurement, UnlearningCheck
from reticent.core.unlearning_words import MARKED, STILL_KNOWN
from reticent.data.coin import uniform
from reticent.models.encode import EncodedRecord, encode, leading_tokens, opening_tokens
from reticent.score.forward import most_read
from reticent.score.generation.generate import make_generations
from reticent.score.generation.sampled_logp import force
from reticent.score.generation.scheme import GREEDY, Scheme
from reticent.stats.hypothesis import family_confidence
from reticent.stats.leak_at_k import exact_leak, leak_at_k
from reticent.stats.proportions import share
from reticent.unlearning.verification.beside import (
    beside_cells,
    beside_columns,
    differences_measured,
    gap_to_retrained,
)
from reticent.unlearning.verification.check import Judging, Visit, check
from reticent.unlearning.verification.kept_columns import Columns, kept_columns

NAME = "extraction"
VERSION = 1
"""Cache version. Increment when this module's output changes for the same inputs."""
MOST = 200
"""Forget rows that are looked at, by hash of their ids."""
LONGEST, LONGEST_PREFIX = 50, 256
"""Tokens that must follow, and that are given, at most."""
SPARE = 64
"""Room left for attack prompts."""
SCHEME = Scheme(temperature=1.0, top_k=40)
"""Decoding of samples: the setting of arXiv:2410.19482."""
DRAWS = (1, 16, 1024)
OFF_BY = 0.1
"""Share of characters that near-verbatim text may have wrong."""
LOWEST = 0.01
"""Share of the vocabulary that counts as the least likely tokens."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Passage:
    """A row as what is given and what must follow, in tokens; the first ``lead`` stand before every text."""

    given: npt.NDArray[np.int32]
    follows: npt.NDArray[np.int32]
    lead: int = 0

    def after(self, words: Sequence[int]) -> EncodedRecord:
        """The whole, with an attacker's tokens before what is given; what follows is marked as trained."""
        parts = [self.given[: self.lead], np.asarray(words, dtype=np.int32), self.given[self.lead :], self.follows]
        token_id = np.concatenate(parts).astype(np.int32)
        return EncodedRecord(token_id=token_id, trained=np.arange(len(token_id)) >= len(token_id) - len(self.follows))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pulls:
    """How far one model gives away ``F`` forget rows.

    Args:
        rows: ``[F]`` places among the forget rows.
        columns: each ``[F]``: ``log_q``, ``greedy``, ``prompted_log_q``, ``prompted_greedy``, ``least``, ``lowest``.
        near: ``[F, samples]`` hits of near-verbatim samples; None where none were drawn.
        texts: what greedy decoding writes, where it was asked for.
    """

    rows: npt.NDArray[np.int64]
    columns: Columns
    near: Floats | None
    texts: tuple[str, ...] = ()


def passage(record: Record, tokenizer: Any, *, max_tokens: int | None, room: int | None) -> Passage | None:
    """The cut of one record; None where there is nothing to give or nothing follows."""
    row = encode(record, tokenizer, max_tokens=max_tokens)
    places = np.flatnonzero(row.trained[1:]) + 1
    if not len(places):
        return None
    whole = bool(row.trained[1:].all())
    start = int(places[len(places) // 2]) if whole else int(places[0])
    run = places[places >= start]
    gaps = np.flatnonzero(np.diff(run) > 1)
    end = int(run[gaps[0]] if len(gaps) else run[-1]) + 1
    end = min(end, start + LONGEST)
    most = LONGEST_PREFIX if room is None else min(LONGEST_PREFIX, room - (end - start) - SPARE)
    lead = leading_tokens(tokenizer)
    given = row.token_id[:start]
    if len(given) > most > len(lead):
        given = np.concatenate([lead, given[len(given) - most + len(lead) :]]).astype(np.int32)
    if not len(given) or most < 1:
        return None
    start_of_text = len(lead) if record.messages is None and given[: len(lead)].tolist() == list(lead) else 0
    return Passage(given=given, follows=row.token_id[start:end], lead=start_of_text)


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
    texts = visit.about.role == AFTER and visit.config.show_text
    return Pulls(
        rows=np.array([row for row, _ in chosen], dtype=np.int64),
        columns=_columns(visit, passages) if passages else {},
        near=_near(visit, chosen) if passages and visit.config.samples else None,
        texts=tuple(_written(visit, chosen, GREEDY, 1)) if passages and texts else (),
    )


def _columns(visit: Visit, passages: Sequence[Passage]) -> Columns:
    about = [VERSION, visit.side.key, visit.side.choices.key, torch.__version__, transformers.__version__, SCHEME.key]
    about += [[cut.given.tolist(), cut.follows.tolist()] for cut in passages]
    return kept_columns(visit.cache, "pulls", [*about, list(PROMPTS)], lambda: _forced(visit, passages))


def _forced(visit: Visit, passages: Sequence[Passage]) -> dict[str, npt.NDArray[Any]]:
    side, tokenizer = visit.side, visit.loaded.tokenizer
    engine = side.engine  # opened outside of the context below: PEFT's does not nest
    vocabulary = engine.forward.vocabulary
    lead = len(leading_tokens(tokenizer))
    words: list[Sequence[int]] = [()]
    words += [opening_tokens(prompt, tokenizer)[lead:] for prompt in PROMPTS]
    log_q, greedy, columns = [], [], {}
    with progress(f"Pulling ({side.name})", len(words) * len(passages), unit="texts") as advance, side.answering():
        for number, prompt in enumerate(words):
            forced = force(engine, [cut.after(prompt) for cut in passages], SCHEME, advance)
            log_q.append(forced.log_chance)
            greedy.append(forced.sum(forced.rank != 0) == 0)
            if not number:
                last = forced.rank == vocabulary - 1
                columns["least"] = (forced.sum(~last) == 0).astype(np.float64)
                columns["lowest"] = forced.sum(forced.rank >= (1 - LOWEST) * vocabulary) / forced.lengths
    return columns | {
        "log_q": log_q[0],
        "greedy": greedy[0].astype(np.float64),
        "prompted_log_q": np.max(log_q[1:], axis=0),
        "prompted_greedy": np.max(greedy[1:], axis=0).astype(np.float64),
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


def measures(pulls: Pulls) -> dict[str, Floats]:
    """Degrees of leakage in [0, 1] by what an attacker does, each ``[F]``."""
    columns = pulls.columns
    found = {"greedy, word for word": columns["greedy"]}
    found |= {_drawn(k): np.minimum(exact_leak(np.minimum(columns["log_q"], 0.0), k), 1.0) for k in DRAWS}
    found["greedy, after an attack prompt"] = columns["prompted_greedy"]
    found[f"{DRAWS[1]} samples, after an attack prompt"] = np.minimum(
        exact_leak(np.minimum(columns["prompted_log_q"], 0.0), DRAWS[1]), 1.0
    )
    if pulls.near is not None:
        drawn = pulls.near.shape[1]
        for k in sorted({1, min(DRAWS[1], drawn), drawn}):
            found[f"near word for word, {k} of {drawn} samples"] = leak_at_k(pulls.near, k)
    found[LEAST] = columns["least"]
    found[LOW_TOKENS] = columns["lowest"]
    return found


LEAST = "least likely decoding, word for word"
LOW_TOKENS = f"share of tokens among the least likely {LOWEST * 100:g} %"


def _drawn(k: int) -> str:
    return f"{k:,} sample{'s' if k > 1 else ''}, word for word"


def evaluate(pulls: Mapping[str, Pulls], judging: Judging) -> UnlearningCheck:
    """Shares of all models, and the gap to the retrained ones."""
    after = pulls[judging.after.name]
    if not len(after.rows):
        return CHECK.not_run("no forget row has both something to give and something that follows")
    owners = judging.owners(judging.forget)
    mine = None if owners is None else owners[after.rows]
    by_model = {name: measures(entry) for name, entry in pulls.items()}
    confidence = judging.config.confidence
    try:
        shares = {
            name: {what: share(values, mine, confidence=confidence) for what, values in of_model.items()}
            for name, of_model in by_model.items()
        }
        gaps = _gaps(by_model, judging, mine)
    except Underpowered:  # one person's rows: one unit, whose spread cannot be told
        shares, gaps = _without_interval(by_model), {}
    words = {what: _word(what, gap) for what, gap in gaps.items()}
    word = next((word for word in (STILL_KNOWN, MARKED) if word in words.values()), "")
    return UnlearningCheck(
        name=NAME,
        word=word,
        sentence=_sentence(word, words, gaps, shares[judging.after.name]),
        could_have_seen=_could_have_seen(gaps),
        section=_section(shares, gaps, words, judging, after),
        measured=tuple(_measured(shares, gaps, words, judging)),
    )


def _gaps(by_model: Mapping[str, Mapping[str, Floats]], judging: Judging, owners: Any) -> dict[str, Estimate]:
    """By what an attacker does, unlearned minus retrained; empty without retrained models."""
    if not judging.retrained:
        return {}
    mine = by_model[judging.after.name]
    single = family_confidence(judging.config.confidence, len(mine))
    return {
        what: replace(
            gap_to_retrained(
                values, [by_model[model.name][what] for model in judging.retrained], owners, confidence=single
            ),
            joint=judging.config.confidence,
        )
        for what, values in mine.items()
    }


def _word(what: str, gap: Estimate) -> str:
    if gap.lo <= 0:
        return ""
    return MARKED if what in (LEAST, LOW_TOKENS) else STILL_KNOWN


def _without_interval(by_model: Mapping[str, Mapping[str, Floats]]) -> dict[str, dict[str, Estimate]]:
    return {
        name: {
            what: Estimate(
                value=float(values.mean()), lo=0.0, hi=1.0, n=len(values), method="no interval: rows of 1 person"
            )
            for what, values in of_model.items()
        }
        for name, of_model in by_model.items()
    }


def _sentence(word: str, words: Mapping[str, str], gaps: Mapping[str, Estimate], shares: Mapping[str, Estimate]) -> str:
    if word:
        what = max((what for what in gaps if words[what] == word), key=lambda what: gaps[what].lo)
        gap = gaps[what]
        return (
            f"Extraction ({what}): {gap.value * 100:+.1f} % [{gap.lo * 100:+.1f}, {gap.hi * 100:+.1f}] more than from "
            f"retrained models: {word}."
        )
    greedy = shares["greedy, word for word"]
    text = f"Extraction: {greedy.value * 100:.1f} % of {greedy.n} rows come out word for word by greedy decoding"
    if not gaps:
        return f"{text}."
    return f"{text}; by no way of decoding more was shown to come out than from retrained models."


def _could_have_seen(gaps: Mapping[str, Estimate]) -> str:
    if not gaps:
        return ""
    half = max(gap.value - gap.lo for gap in gaps.values())
    return (
        f"Extraction: {half * 100:.0f} % more rows than from retrained models would have shown, by any way of decoding."
    )


def _section(
    shares: Mapping[str, Mapping[str, Estimate]],
    gaps: Mapping[str, Estimate],
    words: Mapping[str, str],
    judging: Judging,
    after: Pulls,
) -> Section:
    first = Column(name="attacker", label="The attacker takes")
    rows = tuple(
        beside_cells(
            what, {name: of_model[what] for name, of_model in shares.items()}, judging, word=words.get(what, "")
        )
        for what in shares[judging.after.name]
    )
    table = Table(
        name="unlearning-extraction",
        title="Share of forget rows that come out, per cent",
        columns=beside_columns(first, metric="share"),
        rows=rows,
        caption=f"Of {len(after.rows)} rows, what follows what is given, at most {LONGEST} tokens. Samples by "
        f"{SCHEME}; shares of samples that were not drawn follow exactly from the probability of one.",
    )
    tables = [table]
    if gaps:
        columns = (
            Column(name="attacker", label="The attacker takes"),
            Column(name="gap", label="Unlearned minus retrained", kind="estimate", metric="share", unit=False),
        )
        gap_rows: tuple[tuple[Cell, ...], ...] = tuple((what, gap) for what, gap in gaps.items())
        tables.append(
            Table(
                name="unlearning-extraction-gap",
                title="More than from retrained models, per cent of the rows",
                columns=columns,
                rows=gap_rows,
                caption=f"Intervals hold together at {judging.config.confidence * 100:g} %, over rows and seeds.",
            )
        )
    if after.texts:
        tables.append(_texts(after, judging))
    notes = [] if judging.retrained else ["Without retrained models nothing says how much would come out anyway."]
    if after.near is None:
        notes.append("Near word for word: not run, no samples were asked for.")
    return Section(
        name=NAME,
        title=CHECK.title,
        lede="What comes out of the model when it is given the beginning of a forget row or the question it answers. A "
        "decoder that always takes the least likely token gets back what was made too unlikely.",
        tables=tuple(tables),
        notes=tuple(notes),
    )


def _texts(after: Pulls, judging: Judging) -> Table:
    """The unlearned model's words, which somebody asked for."""
    columns = (Column(name="record", label="Record"), Column(name="text", label="Greedy continuation"))
    rows = tuple((judging.case.forget[int(row)].id, text) for row, text in zip(after.rows, after.texts, strict=True))
    return Table(
        name="unlearning-texts", title="What the unlearned model writes", columns=columns, rows=rows, folded=True
    )


def _measured(
    shares: Mapping[str, Mapping[str, Estimate]],
    gaps: Mapping[str, Estimate],
    words: Mapping[str, str],
    judging: Judging,
) -> list[Measurement]:
    numbers = [
        Measurement(check=NAME, model=model.name, role=model.role, what=what, metric="share", estimate=estimate)
        for model in judging.models
        for what, estimate in shares[model.name].items()
    ]
    return numbers + differences_measured(gaps, words, judging, check=NAME, metric="difference of shares")


CHECK = check(name=NAME, title="Extraction", order=30, read=read, evaluate=evaluate)
