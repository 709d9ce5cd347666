# SPDX-License-Identifier: Apache-2.0
"""Learn the coefficients of the transferred attack from audits of small fine-tunes of one's own.

Each fine-tune is centred by itself, so that only differences between its members and its held-out records teach
anything; what sets one model apart from another teaches nothing. Each counts the same, however many records it has.
The file says for each fine-tune how well coefficients of the others, with another base and other data, did on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.membership.transferred import (
    Floats,
    ShadowModelInfo,
    TransferredCoefficients,
    features_of,
    scored,
)
from reticent.core.errors import BadInput, Underpowered
from reticent.core.manifest import read_manifest
from reticent.core.membership import read_membership
from reticent.core.run_folder import RunFolder
from reticent.core.table import TokenTable, read_table

RIDGE = 1.0
"""Strength of the ridge on standardised features, against a loss that is summed over records."""
FEWEST = 10
"""Records on each side of a fine-tune."""
_COLUMNS = ["logp", "rank", "entropy", "mu", "sigma", "loss_mask"]
_DECIMALS = 9
AGAIN = "Audit it again with a reference: reticent audit RUN."


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownFineTune:
    """A fine-tune whose members are known.

    Args:
        about: name and fingerprints.
        features: ``[N, F]`` of its records (`transferred.features_of`).
        member: ``[N]`` bool.
    """

    about: ShadowModelInfo
    features: Floats
    member: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, table: TokenTable, ref: TokenTable, member: npt.NDArray[np.bool_], about: Mapping[str, Any]
    ) -> KnownFineTune:
        """From both models' tables of trained tokens; records without one are left out.

        Args:
            table, ref: of target and reference, ``N`` rows each.
            member: ``[N]``.
            about: ``name``, and the fingerprints ``model``, ``base`` and ``data``.
        """
        rows = (table.lengths > 0) & (ref.lengths > 0)
        inside = np.asarray(member, dtype=bool)[rows]
        return cls(
            about=ShadowModelInfo(**about, members=int(inside.sum()), held_out=int((~inside).sum())),
            features=features_of(table.take(rows), ref.take(rows)),
            member=inside,
        )


def learn_transferred(runs: Sequence[str | Path], out: str | Path) -> TransferredCoefficients:
    """Learn coefficients from run folders of ``reticent audit``, and write them as JSON.

    Use it on small fine-tunes of other models and other data than those that will be attacked.

    Args:
        runs: folders, each of one fine-tune that was audited with a reference.
        out: file for the coefficients.

    Returns:
        The coefficients, with the AUC on each fine-tune of what was learned on those that share nothing with it.

    Raises:
        BadInput: a folder holds no audit with a reference, or two are of the same model.
        Underpowered: no folder, or fewer than ten members or held-out records in one.

    Examples:
        >>> learn_transferred([], "coefficients.json")
        Traceback (most recent call last):
            ...
        reticent.core.errors.Underpowered: 0 fine-tunes: nothing can be learned from them. Give audited runs.
    """
    found = learn([read_fine_tune(run) for run in runs])
    found.write(out)
    return found


def read_fine_tune(folder: str | Path) -> KnownFineTune:
    """The fine-tune of a run folder that was audited.

    Raises:
        BadInput: there is no audit, or it had no reference.
    """
    run = RunFolder(root=Path(folder))
    tables = [run.tables / f"evaluate.{side}.parquet" for side in ("target", "reference")]
    settings = run.settings("audit")
    missing = [path.name for path in (run.scores, run.manifest, *tables) if not path.is_file()]
    if settings is None or missing:
        raise BadInput(str(run.root), f"is no audit with a reference (no {', '.join(missing) or 'audit.yaml'})", AGAIN)
    membership = read_membership(run.scores)
    membership = membership.take(membership.at_record_level)
    table, ref = (read_table(path, columns=_COLUMNS) for path in tables)
    place = {str(name): number for number, name in enumerate(table.record_id)}
    rows = np.array([place.get(str(name), -1) for name in membership.record_id], dtype=np.int64)
    if (rows < 0).any() or not np.array_equal(table.record_id, ref.record_id):
        raise BadInput(str(run.root), "has tables and scores of different records", AGAIN)
    audit = read_manifest(run.manifest).get("audit", {})
    model = audit.get("target_fingerprint")
    if not model:
        raise BadInput(str(run.root), "does not say which model was audited", AGAIN)
    about = {
        "name": run.root.name,
        "model": model,
        "base": audit.get("reference_fingerprint"),
        "data": settings["data"],
    }
    return KnownFineTune.of(table.take(rows).trained(), ref.take(rows).trained(), membership.member, about)


def learn(fine_tunes: Sequence[KnownFineTune]) -> TransferredCoefficients:
    """Coefficients from fine-tunes, each judged by those that share neither model, base nor data with it.

    Raises:
        BadInput: two are of the same model.
        Underpowered: none, or fewer than ten members or held-out records in one.
    """
    from reticent.stats.roc import auc  # here: a list of attacks does without scipy

    _refuse(fine_tunes)
    judged = []
    for fine_tune in fine_tunes:
        others = [other for other in fine_tunes if not other.about.shares_with(fine_tune.about)]
        found = None
        if others:
            scores = scored(_weights(others), fine_tune.features)
            found = round(auc(scores[fine_tune.member], scores[~fine_tune.member]).value, 4)
        judged.append(replace(fine_tune.about, auc=found, learned_on=len(others)))
    return TransferredCoefficients(weights=tuple(_weights(fine_tunes).tolist()), fine_tunes=tuple(judged))


def _weights(fine_tunes: Sequence[KnownFineTune]) -> Floats:
    """Ridge logistic regression with an intercept for each fine-tune, as far as centring gives one; ``[F]``."""
    from sklearn.linear_model import LogisticRegression

    centred = [row.features - _middle(row) for row in fine_tunes]
    # Members and held-out count the same within a fine-tune, and fine-tunes do among each other.
    share = [np.where(row.member, 0.5 / row.member.mean(), 0.5 / (~row.member).mean()) for row in fine_tunes]
    size = sum(len(row.member) for row in fine_tunes) / len(fine_tunes)
    weight = np.concatenate([part * size / len(part) for part in share])
    features = np.concatenate(centred)
    spread = np.sqrt(np.average(features**2, axis=0, weights=weight))
    scale = np.where(spread > 1e-9, spread, np.inf)
    model = LogisticRegression(C=1 / RIDGE, max_iter=2000, tol=1e-8)
    model.fit(features / scale, np.concatenate([row.member for row in fine_tunes]), sample_weight=weight)
    return np.round(model.coef_[0] / scale, _DECIMALS)


def _middle(fine_tune: KnownFineTune) -> Floats:
    """The mean of a fine-tune's members' and held-out records' means, ``[F]``: it does not move with their shares."""
    sides = (fine_tune.features[fine_tune.member], fine_tune.features[~fine_tune.member])
    return np.mean([side.mean(axis=0) for side in sides], axis=0)


def _refuse(fine_tunes: Sequence[KnownFineTune]) -> None:
    if not fine_tunes:
        raise Underpowered("0 fine-tunes", "nothing can be learned from them", "Give audited runs.")
    names: dict[str, str] = {}
    for row in fine_tunes:
        about = row.about
        if about.model in names:
            raise BadInput(
                f"{names[about.model]}, {about.name}",
                "are audits of the same model, whose records would stand on both sides of the judging split",
                "Give each model once.",
            )
        names[about.model] = about.name
        if min(about.members, about.held_out) < FEWEST:
            raise Underpowered(
                f"{about.name}: {about.members} members and {about.held_out} held-out records",
                "are too few to learn from",
                f"Give fine-tunes with {FEWEST} of each at least.",
            )
