# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of the records by shadow models, beside those by the audited model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reticent.attacks.shadow_models import ShadowScores
from reticent.core.errors import BadInput
from reticent.core.table import iter_tables


@dataclass(frozen=True, kw_only=True, eq=False)
class Shadows:
    """Log-probabilities of ``M`` records by ``K`` shadow models.

    Args:
        record_id: ``[M]``.
        mean_logp: ``[M, K]`` mean log-probability of the record's trained tokens; NaN where there is none.
        tokens: ``[M]`` trained tokens of each record.
        inside: ``[M, K]`` bool: the model was trained on the record.
    """

    record_id: npt.NDArray[np.object_]
    mean_logp: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
    inside: npt.NDArray[np.bool_]

    def beside(self, target: Mapping[str, Path]) -> dict[str, tuple[ShadowScores, npt.NDArray[np.bool_]]]:
        """For each of several tables of the target the scores by target and shadow models of its records that have a
        trained token, and the mask of these records (``[N]`` bool).

        Args:
            target: for each evidence name the target's table on the plain text.

        Raises:
            BadInput: a table is of other records, or of other tokens.
        """
        place = {id_: row for row, id_ in enumerate(self.record_id.tolist())}
        target_logp = {name: mean_logp(path) for name, path in target.items()}
        rows = {}
        for name, table in target_logp.items():
            matches = np.array([place.get(id_, -1) for id_ in table.record_id.tolist()], dtype=np.int64)
            if (matches < 0).any() or not np.array_equal(self.tokens[matches], table.tokens):
                raise BadInput(
                    "the shadow models",
                    "were scored on other records or other tokens than the audited model",
                    "Delete the folder shadows/ of the run, and audit again.",
                )
            rows[name] = matches
        of = np.concatenate(list(rows.values()))
        mean = np.concatenate([table.mean for table in target_logp.values()])
        full = ~np.isnan(mean) & ~np.isnan(self.mean_logp[of]).any(axis=1)
        joined = ShadowScores(target=mean[full], shadows=self.mean_logp[of][full], inside=self.inside[of][full])
        which = np.repeat(np.arange(len(rows)), [len(matches) for matches in rows.values()])
        return {name: (joined.take(which[full] == number), full[which == number]) for number, name in enumerate(rows)}


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanLogp:
    """Mean log-probability and number of the trained tokens of ``N`` records, in the order of a table."""

    record_id: npt.NDArray[np.object_]
    mean: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]


def mean_logp(path: Path) -> MeanLogp:
    """Mean log-probabilities of a token table, read a row group at a time."""
    parts = [table.trained() for table in iter_tables(path, columns=["logp", "loss_mask"])]
    return MeanLogp(
        record_id=np.concatenate([part.record_id for part in parts]),
        mean=np.concatenate([part.mean(part["logp"]) for part in parts]),
        tokens=np.concatenate([part.lengths for part in parts]).astype(np.int64),
    )
