# SPDX-License-Identifier: Apache-2.0
"""One request unlearned by several methods and seeds, side by side: which of them is worth a verification?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.lock import locked
from reticent.core.outputs import refuse_empty, refuse_input
from reticent.core.portable import portable
from reticent.core.processes import refuse_several
from reticent.core.progress import console
from reticent.core.record import fingerprint
from reticent.core.run_folder import RunFolder
from reticent.core.unlearning import AFTER, BEFORE, PlanePoint
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.methods_folder import MethodsFolder, MethodTried
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_plan import RequestPlan, plan_request
from reticent.unlearning.run_to_verify import run_to_verify
from reticent.unlearning.verification.config import VerifyConfig
from reticent.workflows.unlearn import refuse_unusable, unlearn

UNTOUCHED = "untouched"


def unlearn_by_each(
    run: RunFolder | str | Path,
    *,
    out: str | Path,
    forget: ForgetRequest,
    methods: Sequence[str],
    seeds: int = 1,
    config: UnlearnConfig | None = None,
) -> MethodsFolder:
    """Unlearn one request by each of several methods, from the same model, and read each at the forget-retain plane.

    Each gets a run folder below ``out``, which can be verified like any other; models that a verification trains again
    are shared by all. The same call again goes on; further methods or seeds may be asked for later. A method that keeps
    nothing, as the retain budget broke or the loss was no longer finite, is listed as that, and the others go on.

    Args:
        run: of `reticent tune`, or of an earlier unlearning, which is gone on from.
        out: the folder to make.
        forget: who or what is to be forgotten.
        methods: names.
        seeds: trainings of each method, with seeds from that of ``config`` on. A seed also deals anew which rows steer
            and which judge. Exact methods are done once.
        config: further settings, for all of them; None for the defaults. ``method`` and ``method_params`` are not read.

    Raises:
        BadInput: as `reticent.workflows.unlearn.unlearn`, for any of the methods before the first is begun; ``out``
            holds something else.
    """
    from reticent.train.unlearning.method import UNLEARNERS

    refuse_several("reticent.unlearn")
    config = config or UnlearnConfig()
    parent = run if isinstance(run, RunFolder) else RunFolder(root=Path(run))
    refuse_empty("out", out)
    folder = MethodsFolder(root=Path(out))
    refuse_input(folder.root, {"the run": parent.root})
    _check(methods, seeds, config)
    plan = plan_request(parent, forget, seed=config.seed)
    for method in methods:
        refuse_unusable(parent, plan, replace(config, method=method))
    with locked(folder.root):
        folder.claim(_request(parent, folder, plan, config))
        for method in methods:
            exact = UNLEARNERS.get(method).kind == "exact"  # no seed changes what it makes
            for seed in range(config.seed, config.seed + (1 if exact else seeds)):
                _try(parent, folder, forget, replace(config, method=method, seed=seed))
    return folder


def _check(methods: Sequence[str], seeds: int, config: UnlearnConfig) -> None:
    from reticent.train.unlearning.method import UNLEARNERS

    validate.positive(seeds=seeds)
    if not methods:
        raise BadInput("methods", "name none", "Name some, such as npo,simnpo.")
    for method in methods:
        UNLEARNERS.get(method)
    if len(set(methods)) < len(methods):
        raise BadInput(f"methods={','.join(methods)}", "name one twice", "Name each once; --seeds repeats all.")
    if config.method_params:
        raise BadInput(
            "method_params with several methods",
            "they are settings of one method",
            "Leave them out, or unlearn by that method with --method.",
        )


def _request(parent: RunFolder, folder: MethodsFolder, plan: RequestPlan, config: UnlearnConfig) -> dict[str, Any]:
    """All that has to be the same for all methods."""
    settings = {name: value for name, value in config.on_record.items() if name not in ("method", "method_params")}
    return {
        "parent": portable(str(parent.root), folder.root),
        "data": fingerprint(plan.forget.rows.records),
        "request": plan.forget.fingerprint,
        **settings,
    }


def _try(parent: RunFolder, folder: MethodsFolder, forget: ForgetRequest, config: UnlearnConfig) -> None:
    from reticent.train.diverged import Diverged
    from reticent.unlearning.stopping import NothingKept

    run = folder.run(config.method, config.seed)
    rows = {row.name: row for row in folder.tried()}
    before = rows.get(run.root.name)
    if config.resume and before is not None and (before.why_not or run.manifest.exists()):
        console.print(f"{run.root.name} is done already.", highlight=False)
        return
    console.print(f"unlearning by {config.method}, seed {config.seed}", highlight=False)
    row = MethodTried(name=run.root.name, method=config.method, seed=config.seed)
    try:
        unlearn(parent, out=run.root, forget=forget, config=config)
    except (Diverged, NothingKept) as error:
        console.print(str(error), highlight=False, soft_wrap=True, markup=False)
        folder.put(replace(row, why_not=str(error)))
        return
    places = _places(run, config, untouched=UNTOUCHED not in rows)
    if BEFORE in places:
        folder.put(MethodTried(name=UNTOUCHED, method="", place=_named(places[BEFORE], UNTOUCHED)))
    place = _named(places.get(AFTER), f"{config.method}, seed {config.seed}")
    folder.put(replace(row, step=_step(run), seconds=_log(run).get("seconds_since_start_or_resume"), place=place))


def _places(run: RunFolder, config: UnlearnConfig, *, untouched: bool) -> dict[str, PlanePoint | None]:
    """Places in the plane by role; none where there is nothing to compare with."""
    from reticent.unlearning.verification.plane import plane_of

    unlearned = run_to_verify(run)
    if unlearned.rows.no_verification or not unlearned.judged(unlearned.unseen):
        return {}
    roles = (BEFORE, AFTER) if untouched else (AFTER,)
    return plane_of(unlearned.case(), roles, VerifyConfig(dtype=config.dtype, device=config.device))


def _named(place: PlanePoint | None, name: str) -> PlanePoint | None:
    return None if place is None else replace(place, name=name)


def _step(run: RunFolder) -> int | None:
    """The step of the weights that were kept; None where the log has no steps."""
    from reticent.unlearning.looks import nearest_in_budget
    from reticent.unlearning.stopping import read_looks

    if looks := read_looks(run.looks):
        return nearest_in_budget(looks)
    steps = [entry["step"] for entry in _log(run).get("history", []) if "step" in entry]
    return max(steps, default=None)


def _log(run: RunFolder) -> dict[str, Any]:
    from reticent.train.outcome import LOG

    path = run.model / LOG
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
