# SPDX-License-Identifier: Apache-2.0
"""Scores of private records and planted secrets by the synthetic text alone. No model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.auditing.case import AuditCase
from reticent.auditing.synthetic.likeness import likeness_scores, nearest_shares
from reticent.auditing.synthetic.own_words import own_runs_told, own_values_told
from reticent.auditing.synthetic.synthetic_file import SyntheticFile
from reticent.auditing.synthetic.text_pairs import cut, pair_gain, pair_scores, secret_scores
from reticent.auditing.synthetic.text_units import TextUnits, coin_units, owners
from reticent.core.record import Record
from reticent.data.canaries import CANARIES, Canary
from reticent.data.pii.detect import choose, detect_all

Floats = npt.NDArray[np.float64]

PAIRS, GAIN, LIKENESS = "synthetic_pairs", "synthetic_pair_gain", "synthetic_likeness"
"""Attacks on records; `GAIN` is named beforehand as the one that counts most."""
RUNS, VALUES, NEAREST = "own_words", "own_personal_data", "nearest_record"
"""Kinds of things that are told of units."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticEvidence:
    """All that the synthetic text shows of the private records.

    Args:
        file: the synthetic texts.
        scores: by attack, ``[N]`` of all records in the case's order; higher = leaks more.
        units: that are compared for what is told of them.
        told: by kind, ``[U]`` how much is told of each unit; higher = more.
        secrets: ``[C]`` score of each planted secret in the case's order; higher = leaks more.
        nearest: for each side, the median likeness of a synthetic text to its closest record that is compared.
    """

    file: SyntheticFile
    scores: Mapping[str, Floats]
    units: TextUnits
    told: Mapping[str, Floats]
    secrets: Floats
    nearest: tuple[float, float]


def collect(case: AuditCase, file: SyntheticFile) -> SyntheticEvidence:
    """Score all records, units and planted secrets of a case by the synthetic texts.

    Args:
        case: records, coins, planted secrets.
        file: the synthetic texts.
    """
    words = cut([record.plain for record in case.records])
    synthetic = cut(file.texts)
    person = owners(case.membership, "user")
    scores = {
        GAIN: pair_gain(words, synthetic, words, person, person),
        PAIRS: pair_scores(words, synthetic),
        LIKENESS: likeness_scores(words, synthetic),
    }
    units = coin_units(case.membership)
    return SyntheticEvidence(
        file=file,
        scores=scores,
        units=units,
        told=told_of(case.records, words, units, synthetic),
        secrets=scores_of_secrets(case.canaries, words, person, synthetic),
        nearest=_nearest(words, units, case.membership.user_member, case.membership.member, synthetic),
    )


def told_of(
    records: Sequence[Record], words: Sequence[Sequence[str]], units: TextUnits, synthetic: Sequence[Sequence[str]]
) -> dict[str, Floats]:
    """By kind, how much the synthetic text tells of each unit."""
    counted = units.rows.tolist()
    runs = own_runs_told(words, units.owner, synthetic, counted=counted)
    values = own_values_told(list(detect_all(records, choose())), units.owner, synthetic, counted=counted)
    compared = np.flatnonzero(units.rows)
    shares = nearest_shares(synthetic, [words[row] for row in compared.tolist()])
    near = dict.fromkeys(units.owner, 0.0)
    for row, share in zip(compared.tolist(), shares.tolist(), strict=True):
        near[units.owner[row]] += share
    by_kind: dict[str, Mapping[str, float]] = {RUNS: runs, VALUES: values, NEAREST: near}
    return {kind: np.array([of[name] for name in units.names], dtype=np.float64) for kind, of in by_kind.items()}


def _nearest(
    words: Sequence[Sequence[str]],
    units: TextUnits,
    user_member: npt.NDArray[np.bool_],
    member: npt.NDArray[np.bool_],
    synthetic: Sequence[Sequence[str]],
) -> tuple[float, float]:
    inside = member if units.kind == "record" else user_member
    sides = ([words[row] for row in np.flatnonzero(units.rows & side).tolist()] for side in (inside, ~inside))
    medians = [
        float(np.median(likeness_scores(synthetic, side, nearest=1))) if side else float("nan") for side in sides
    ]
    return medians[0], medians[1]


def scores_of_secrets(
    canaries: Sequence[Canary],
    words: Sequence[Sequence[str]],
    person: Sequence[str],
    synthetic: Sequence[Sequence[str]],
) -> Floats:
    """``[C]`` score of each planted secret; higher = leaks more.

    Secrets that are all as likely are scored behind the words that lead to them. Those that are not, such as texts that
    a model wrote, hold common words and rare ones, so what every text like the data has is taken off: word pairs of all
    records and of all other secrets, planted or not. The coins play no part in that.

    Args:
        canaries: of the case, in its order.
        words: of all records.
        person: whose each record is.
        synthetic: the words of the synthetic texts.
    """
    if all(canary.kind in CANARIES and CANARIES.get(canary.kind).uniform for canary in canaries):
        return secret_scores([_lead(canary) for canary in canaries], synthetic)
    secrets = cut([canary.secret for canary in canaries])
    names = [f"secret {canary.id}" for canary in canaries]
    return pair_gain(secrets, synthetic, [*words, *secrets], names, [*person, *names])


def _lead(canary: Canary) -> tuple[str, str]:
    return canary.text[: canary.start], canary.secret
