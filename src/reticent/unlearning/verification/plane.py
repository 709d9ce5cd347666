# SPDX-License-Identifier: Apache-2.0
"""The place of models in the forget-retain plane, without a whole verification: one scoring of each model.

Tables go to the cache where a verification of the same rows finds them.
"""

from __future__ import annotations

from collections.abc import Sequence

from reticent.core.unlearning import AFTER, BEFORE, PlanePoint, UnlearningModel
from reticent.core.user_cache import user_cache
from reticent.models.load import load
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.check import Judging, Margin, Visit
from reticent.unlearning.verification.collateral import place_in_plane
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.look_into import owners_of, scorable


def plane_of(
    case: VerificationCase, roles: Sequence[str] = (AFTER,), config: VerifyConfig | None = None
) -> dict[str, PlanePoint | None]:
    """The places of the unlearned model, and of the untouched one where that is asked for, by role.

    Args:
        case: models and texts.
        roles: ``"after"``, ``"before"``.
        config: confidence, and where models run; None for the defaults.

    Returns:
        None for a model where there are no retained rows, or too few rows on a side.

    Raises:
        BadInput: a model cannot be loaded, or no row of a side has a token to predict.
    """
    config = config or VerifyConfig()
    sources = {AFTER: case.after, BEFORE: case.before}
    places: dict[str, PlanePoint | None] = {}
    for role in roles:
        loaded = load(sources[role], dtype=config.dtype, device=config.device)
        rows, _ = scorable(case, loaded.tokenizer)
        about = UnlearningModel(name=case.title, role=role, fingerprint=loaded.fingerprint)
        visit = Visit(about=about, loaded=loaded, base=None, case=rows, config=config, cache=user_cache())
        judging = Judging(
            case=rows,
            config=config,
            models=(about,),
            margin=Margin(value=config.margin or 0.0, enough=False, reason="nothing is judged by it here"),
            user=owners_of(list(rows.judged)),
        )
        places[role] = place_in_plane(about, visit.table, judging)
    return places
