# SPDX-License-Identifier: Apache-2.0
"""Transferred attack: a membership classifier learned on small fine-tunes of other models and data.

Whoever fine-tunes a model knows what went in, so an attacker makes fine-tunes of their own, learns on them which
statistics of tokens give members away, and applies that to a model that they never saw. The classifier is a logistic
regression on 20 numbers of a record: the mean over its tokens of 13 statistics of target and reference, and 7 published
ratios. Few coefficients can be learned from few fine-tunes; `learned` is the network for many.

Coefficients are a JSON file that `learn_transferred` writes from run folders. None are shipped: an audit that gives
none (``--attacks "transferred(coefficients=FILE)"``) runs without this attack, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Attack, Scores, attack
from reticent.attacks.membership.learned import portions, record_features, token_features
from reticent.attacks.parameter import GivenFile
from reticent.core.errors import BadInput
from reticent.core.table import TokenTable

Floats: TypeAlias = npt.NDArray[np.float64]
CoefficientFile = Annotated[str, GivenFile("coefficients")]

FORMAT = "reticent transferred attack 1"
NAME = "transferred"

_OF_TOKENS = (
    *("loss", "loss_ref", "gain", "sharp_gain", "log_gain", "rank", "rank_ref", "wrong", "wrong_ref", "entropy"),
    *("entropy_gain", "surprise_gain", "place"),
)
_OF_RECORDS = ("ez_mia", "wbc", "log_loss_ratio", "log_loss_ref", "mean_gain", "gain_over_spread", "log_length")
FEATURES = (*(f"token_{name}" for name in _OF_TOKENS), *_OF_RECORDS)
"""Numbers of a record, in the order of the coefficients."""
LEARN = "Learn coefficients with reticent.attacks.learn_transferred."


@dataclass(frozen=True, kw_only=True)
class ShadowModelInfo:
    """One fine-tune that coefficients were learned on: what it was, and how well the others transfer to it.

    Args:
        name: of its run.
        model: fingerprint of the fine-tuned weights.
        base: fingerprint of the reference's weights; None where it is not known.
        data: fingerprint of its records, members and held-out together.
        members, held_out: how many records of each.
        auc: of coefficients that were learned only on fine-tunes of other models, bases and data, on this one; None
            where there are no such fine-tunes.
        learned_on: how many those were.

    Examples:
        >>> rows = [{"name": n, "model": n, "data": n, "members": 300, "held_out": 300} for n in ("mails", "plays")]
        >>> mails, plays = ShadowModelInfo(**rows[0], base="gpt2"), ShadowModelInfo(**rows[1], base="gpt2")
        >>> mails.shares_with(plays)  # the base: neither says how well the attack transfers to the other
        True
    """

    name: str
    model: str
    base: str | None
    data: str
    members: int
    held_out: int
    auc: float | None = None
    learned_on: int = 0

    def shares_with(self, other: ShadowModelInfo) -> bool:
        """Both have a model, a base or records in common, so that one is no unseen case of the other."""
        same_base = self.base is not None and self.base == other.base
        return same_base or self.model == other.model or self.data == other.data


@dataclass(frozen=True, kw_only=True)
class TransferredCoefficients:
    """Coefficients of the classifier, and the fine-tunes that they come from.

    Args:
        weights: ``[F]``, one for each of ``FEATURES``, on the features as they are, without centre or scale.
        fine_tunes: what they were learned on.

    Examples:
        >>> found = TransferredCoefficients(weights=(0.0,) * len(FEATURES), fine_tunes=())
        >>> found.refuse_seen(model="a3", data="77")
    """

    weights: tuple[float, ...]
    fine_tunes: tuple[ShadowModelInfo, ...]

    def refuse_seen(self, *, model: str | None, data: str | None) -> None:
        """Refuse to attack a model, or records, that the coefficients were learned on.

        Raises:
            BadInput: one of the fine-tunes has this model, or these records.
        """
        for known in self.fine_tunes:
            seen = [name for name, mine in (("model", model), ("data", data)) if mine == getattr(known, name)]
            if seen:
                raise BadInput(
                    f"{NAME}: {known.name}",
                    f"the coefficients were learned on this very {' and '.join(seen)}, so they show no transfer",
                    "Give coefficients that were learned on other models and data.",
                )

    def write(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        from reticent.core.atomic import write_text

        body: dict[str, Any] = {"format": FORMAT, "weights": dict(zip(FEATURES, self.weights, strict=True))}
        body["fine_tunes"] = [asdict(row) for row in self.fine_tunes]
        write_text(path, json.dumps(body, indent=1) + "\n")


def read_coefficients(path: str | Path) -> TransferredCoefficients:
    """Read what `TransferredCoefficients.write` wrote.

    Raises:
        BadInput: there is no such file, it has another format, or other or broken numbers.
    """
    try:
        body = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{NAME}: coefficients {path}", "cannot be read as JSON", LEARN) from error
    try:
        if body["format"] != FORMAT or tuple(body["weights"]) != FEATURES:
            raise BadInput(f"{NAME}: coefficients {path}", "are for another version of the attack", LEARN)
        weights = tuple(float(weight) for weight in body["weights"].values())
        known = {field.name for field in fields(ShadowModelInfo)}
        rows = tuple(ShadowModelInfo(**{key: row[key] for key in known}) for row in body["fine_tunes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{NAME}: coefficients {path}", "are no coefficients of this attack", LEARN) from error
    if not np.isfinite(weights).all():
        raise BadInput(f"{NAME}: coefficients {path}", "are not all finite", LEARN)
    return TransferredCoefficients(weights=weights, fine_tunes=rows)


def features_of(table: TokenTable, ref: TokenTable) -> Floats:
    """``FEATURES`` of each record, ``[N, F]``; every row has a token."""
    out = np.empty((len(table), len(FEATURES)))
    for rows in portions(table):
        part, part_ref = table.take(rows), ref.take(rows)
        told = token_features(part, part_ref)
        out[rows, : len(_OF_TOKENS)] = np.add.reduceat(told, part.offsets[:-1], axis=0) / part.lengths[:, None]
        out[rows, len(_OF_TOKENS) :] = record_features(part, part_ref)
    return out


@attack(
    NAME,
    unit="record",
    returns="score",
    needs=("logp", "rank", "entropy", "mu", "sigma"),
    access="logits",
    paper="arXiv:2604.03199",
    by_name="needs coefficients that were learned on other fine-tunes (coefficients=FILE)",
)
def transferred(table: TokenTable, ref: TokenTable, *, coefficients: CoefficientFile | None = None) -> Scores:
    """Log-odds of a logistic regression over the tokens' statistics, learned on fine-tunes of other models and data.

    Args:
        table: the target on the text.
        ref: the reference on the text.
        coefficients: JSON that `learn_transferred` wrote. An audit refuses those that were learned on its own model or
            records; whoever calls this function has to see to that.

    Returns ``[N]``, log-odds up to a constant, higher = member. Defined from one token on.

    Raises:
        BadInput: no coefficients, or a file that holds none.
    """
    if coefficients is None:
        raise BadInput(NAME, "has no coefficients", f"{LEARN[:-1]}, and give them: {NAME}(coefficients=FILE).")
    return scored(read_coefficients(coefficients).weights, features_of(table, ref))


def scored(weights: Sequence[float] | Floats, features: Floats) -> Scores:
    """``[N]``; summed term by term, so that a record's score does not depend on how many are scored with it."""
    return (features * np.asarray(weights)).sum(axis=1)


def refuse_seen(attacks: Iterable[Attack], *, model: str | None, data: str | None) -> None:
    """Refuse attacks whose coefficients were learned on the model, or the records, that are to be attacked.

    Args:
        attacks: that are to run; others than this one are passed over.
        model: fingerprint of the target's weights.
        data: fingerprint of all records.

    Raises:
        BadInput: see `TransferredCoefficients.refuse_seen` and `read_coefficients`.
    """
    for entry in attacks:
        given: Mapping[str, Any] = entry.params
        if entry.function is transferred and given["coefficients"] is not None:
            read_coefficients(given["coefficients"]).refuse_seen(model=model, data=data)
