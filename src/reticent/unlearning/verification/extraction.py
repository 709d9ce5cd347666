# SPDX-License-Identifier: Apache-2.0
"""Extraction: does the text of the forget rows come out, by any of several ways of decoding?

A row is cut into what an attacker gives and what must follow: prompt and answer where it has them, else its first half
and what follows, up to ``LONGEST`` tokens. One teacher-forced pass tells greedy decoding exactly, and the probability q
of one sample too, so that leak@k = 1 - (1 - q)^k has no sampling noise; the same pass tells what follows once the first
tokens of the answer are given. A question in other words shows whether an answer or only a wording was forgotten. A
decoder that picks the least likely token each time gets back what was made *too* unlikely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.section import Cell, Column, Section, Table
from reticent.core.unlearning import Measurement, UnlearningCheck
from reticent.core.unlearning_words import MARKED, STILL_KNOWN
from reticent.stats.hypothesis import family_confidence
from reticent.stats.leak_at_k import exact_leak, leak_at_k
from reticent.stats.proportions import share
from reticent.unlearning.verification.beside import (
    Owners,
    beside_cells,
    beside_columns,
    differences_measured,
    gap_to_retrained,
)
from reticent.unlearning.verification.check import Judging, check
from reticent.unlearning.verification.passages import LONGEST
from reticent.unlearning.verification.pulls import GIVEN, LOWEST, NAME, SCHEME, Floats, Pulls, read

DRAWS = (1, 16, 1024)


def measures(pulls: Pulls) -> dict[str, Floats]:
    """Degrees of leakage in [0, 1] by what an attacker does, each ``[F]``; those of `REWORDED` each ``[P]``."""
    columns = pulls.columns
    shares = {"greedy, word for word": columns["greedy"]}
    shares |= {_drawn(k): _leaked(columns["log_q"], k) for k in DRAWS}
    for way in ("prompted", "prefixed"):
        if f"{way}_greedy" in columns:
            shares[f"greedy, {_WAYS[way]}"] = columns[f"{way}_greedy"]
            shares[f"{DRAWS[1]} samples, {_WAYS[way]}"] = _leaked(columns[f"{way}_log_q"], DRAWS[1])
    if len(pulls.reworded_rows):
        shares[REWORDED[0]] = pulls.reworded["greedy"]
        shares[REWORDED[1]] = _leaked(pulls.reworded["log_q"], DRAWS[1])
    if pulls.near is not None:
        drawn = pulls.near.shape[1]
        for k in sorted({1, min(DRAWS[1], drawn), drawn}):
            shares[f"near word for word, {k} of {drawn} samples"] = leak_at_k(pulls.near, k)
    shares[LEAST] = columns["least"]
    shares[LOW_TOKENS] = columns["lowest"]
    return shares


def _leaked(log_q: Floats, k: int) -> Floats:
    return np.minimum(exact_leak(np.minimum(log_q, 0.0), k), 1.0)


_WAYS = {"prompted": "after an attack prompt", "prefixed": f"after the answer's first {GIVEN} tokens"}
REWORDED = ("greedy, question in other words", f"{DRAWS[1]} samples, question in other words")
LEAST = "least likely decoding, word for word"
LOW_TOKENS = f"share of tokens among the least likely {LOWEST * 100:g} %"


def _drawn(k: int) -> str:
    return f"{k:,} sample{'s' if k > 1 else ''}, word for word"


def evaluate(pulls: Mapping[str, Pulls], judging: Judging) -> UnlearningCheck:
    """Shares of all models, and the gap to the retrained ones."""
    after = pulls[judging.after.name]
    if not len(after.rows):
        return CHECK.not_run("no forget row has both something to give and something that follows")
    by_model = {name: measures(entry) for name, entry in pulls.items()}
    owners = {what: _owners(what, after, judging) for what in by_model[judging.after.name]}
    shares = {
        name: {what: _share(values, owners[what], judging) for what, values in of_model.items()}
        for name, of_model in by_model.items()
    }
    gaps = _gaps(by_model, judging, owners)
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


def _owners(what: str, pulls: Pulls, judging: Judging) -> Owners:
    """Owners of the rows that a measure is of."""
    owners = judging.owners(judging.forget)
    rows = pulls.reworded_rows if what in REWORDED else pulls.rows
    return None if owners is None else owners[rows]


def _share(values: Floats, owners: Owners, judging: Judging) -> Estimate:
    try:
        return share(values, owners, confidence=judging.config.confidence)
    except Underpowered:  # one person's rows: one unit, whose spread cannot be told
        return Estimate(
            value=float(values.mean()), lo=0.0, hi=1.0, n=len(values), method="no interval: rows of 1 person"
        )


def _gaps(
    by_model: Mapping[str, Mapping[str, Floats]], judging: Judging, owners: Mapping[str, Owners]
) -> dict[str, Estimate]:
    """By what an attacker does, unlearned minus retrained; empty without retrained models, or for one person's rows."""
    if not judging.retrained:
        return {}
    mine, joint = by_model[judging.after.name], judging.config.confidence
    single = family_confidence(joint, len(mine))
    gaps = {}
    for what, values in mine.items():
        others = [by_model[model.name][what] for model in judging.retrained]
        try:
            gap = gap_to_retrained(values, others, owners[what], confidence=single)
        except Underpowered:
            continue
        gaps[what] = replace(gap, joint=joint)
    return gaps


def _word(what: str, gap: Estimate) -> str:
    if gap.lo <= 0:
        return ""
    return MARKED if what in (LEAST, LOW_TOKENS) else STILL_KNOWN


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
    if len(after.reworded_rows):
        notes.append(f"In other words: {len(after.reworded_rows)} of the {len(after.rows)} rows.")
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
