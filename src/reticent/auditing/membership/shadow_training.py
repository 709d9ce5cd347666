# SPDX-License-Identifier: Apache-2.0
"""Shadow models: train ``K`` more models as the audited one was, each on coins of its own over the same records, and
keep the statistics of the records by each.

They lie in ``shadows/`` of the run folder, one numbered folder each, and never leave it: they are trained on private
text without any promise, for the audit alone. A shadow model whose statistics are there is not trained again; one that
was interrupted goes on from its last checkpoint. A later audit with more shadow models trains those that are missing.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.attacks.attack import ATTACKS
from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.membership.choose_attacks import asked_for
from reticent.auditing.membership.shadow_scores import Shadows, mean_logp
from reticent.core.atomic import replacing, sweep, write_text
from reticent.core.errors import BadInput, Unusable
from reticent.core.lock import locked
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.shadow_coins import shadow_coins
from reticent.models.tuned import read_tuned
from reticent.train.config import TuneConfig
from reticent.train.objectives.as_text import read_objectives
from reticent.train.objectives.objective import Objective

SETTINGS, STATISTICS = "shadows.json", "statistics.parquet"


def refuse_shadows(config: AuditConfig, case: AuditCase, tuned: RunFolder | None) -> None:
    """Refuse shadow models where they cannot be made as the audited model was, or nothing would read them.

    Raises:
        BadInput: there is no run folder; the run is private, or was ended by what its monitor saw; no attack that was
            asked for reads shadow models.
    """
    if not config.shadow:
        return
    flag = f"shadow={config.shadow}"
    if tuned is None:
        raise BadInput(
            f"{flag} without a run folder",
            "shadow models are trained as the audited model was and on coins over the same records, and only a run "
            "folder says how",
            "Tune with `reticent tune --out RUN`, then: reticent audit RUN --shadow 8.",
        )
    if case.about.get("privacy"):
        raise BadInput(
            f"{flag} on a private run",
            "shadow models with its noise would each spend privacy on the same people, which the ledger would have to "
            "count, and ones without noise are no likeness of it",
            "Leave --shadow out: coins and canaries bound the ε of a private run without further trainings.",
        )
    if case.about.get("monitor", {}).get("stop_at"):
        raise BadInput(
            f"{flag} on a run with --stop_at",
            "its training ended by what its own members' losses showed, and shadow models would end elsewhere",
            "Tune again with --epochs in place of --stop_at.",
        )
    if case.membership.unit == "given":
        raise BadInput(flag, "the membership of the run was given, so there are no coins to throw for others", "Tune "
                       "with `reticent tune`, which throws coins, or leave --shadow out.")  # fmt: skip
    if not any(ATTACKS.get(name).shadowed for name in asked_for(config.attacks)):
        raise BadInput(
            f"{flag} with attacks={config.attacks!r}",
            "none of them reads shadow models, so these would be trained for nothing",
            "Name one, such as --attacks standard or --attacks lira,rmia_shadow.",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """Settings that decide the shadow models and the statistics that they give."""

    base: str
    training: TuneConfig
    objectives: tuple[Objective, ...]
    records: Sequence[Record]
    scored: Sequence[Record]
    membership: npt.NDArray[np.bool_]
    max_tokens: int | None
    dtype: str
    device: str
    about: Mapping[str, Any]

    def seed(self, number: int) -> int:
        """Seed of one training; not the target's, which an attacker does not know."""
        return (self.training.seed + 1 + number) % 2**31

    def key(self, number: int) -> str:
        return hashlib.sha256(json.dumps([self.about, number], sort_keys=True).encode()).hexdigest()


def shadow_models(run: RunFolder, case: AuditCase, config: AuditConfig, *, dtype: str) -> Shadows:
    """Train the shadow models that are missing, and read the statistics of all of them about the attacked records.

    Weights and token tables go once the statistics of a model are written, unless ``config.keep_shadows`` is set.

    Args:
        run: the run folder of the audited model.
        case: the case of that run.
        config: number of shadow models, and the device that scores.
        dtype: of the weights while scoring, as the audited model is scored.

    Raises:
        BadInput: the folder holds shadow models of other settings; a training or a scoring cannot be done.
    """
    folder = run.shadows
    with locked(folder):
        plan = _plan(case, run, config, dtype)
        _claim(folder, plan)
        tables = [_statistics(folder / f"{number:03d}", number, plan, config) for number in range(config.shadow)]
    inside = [table["inside"].to_numpy(zero_copy_only=False) for table in tables]
    return Shadows(
        record_id=tables[0]["record_id"].to_numpy(zero_copy_only=False),
        mean_logp=np.column_stack([table["mean_logp"].to_numpy() for table in tables]),
        tokens=tables[0]["tokens"].to_numpy().astype(np.int64),
        inside=np.column_stack(inside).astype(bool),
    )


def _plan(case: AuditCase, run: RunFolder, config: AuditConfig, dtype: str) -> _Plan:
    from reticent.models.load import pick_device, pick_dtype
    from reticent.models.locate import locate
    from reticent.models.weights import fingerprint_weights

    tuned = read_tuned(run.model)
    assert tuned is not None  # a run folder has one
    if fingerprint_weights(locate(tuned.base)) != tuned.base_fingerprint:
        raise BadInput(
            tuned.base, "has other weights than when the run was tuned from it", "Put the base back, or tune again."
        )
    settings, membership = case.about, case.membership
    training = replace(TuneConfig(**settings["training"]), report_to="none", resume=True)
    split = {
        "probability": membership.probability,
        "train_fraction": settings["split"]["train_fraction"],
        "max_per_user": settings["split"]["max_records_per_user"],
    }
    scored = [*case.evaluated_records, *case.population]
    device = pick_device(config.device)
    about = {
        "format": 1,
        "base": tuned.base_fingerprint,
        "data": case.data_fingerprint,
        "split": split | {"unit": membership.unit, "seed": membership.seed},
        "training": _on_record(training),
        "harden": settings.get("harden", {}),
        "contextual": settings.get("contextual", {}),
        **({"objectives": settings["objectives"]} if "objectives" in settings else {}),
        "scored": hashlib.sha256(
            "\0".join(record.id for record in scored).encode("utf-8", "surrogatepass")
        ).hexdigest(),
        "dtype": pick_dtype(dtype, device),
    }
    return _Plan(
        base=tuned.base,
        training=training,
        objectives=read_objectives(settings),
        records=case.records,
        scored=scored,
        membership=shadow_coins(case.records, membership, shadows=config.shadow, seed=membership.seed, **split),
        max_tokens=case.max_tokens,
        dtype=dtype,
        device=config.device,
        about=json.loads(json.dumps(about)),
    )


def _on_record(training: TuneConfig) -> dict[str, Any]:
    """All settings; earlier versions wrote them without ``shards``."""
    return {
        name: value for name, value in asdict(replace(training, device="auto")).items() if value or name != "shards"
    }


def _claim(folder: Path, plan: _Plan) -> None:
    """Record what the shadow models of this folder are; refuse it where they are others."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unusable(str(folder), f"cannot be made ({error.strerror})", "Make the run folder writable.") from error
    path, fix = folder / SETTINGS, f"Audit as before, or delete {folder} to train them anew."
    if not path.exists():
        if any(folder.iterdir()):
            raise BadInput(str(folder), "holds something else than shadow models", "Move that away.")
        write_text(path, json.dumps(plan.about, indent=2) + "\n")
        return
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(name for name in plan.about | recorded if plan.about.get(name) != recorded.get(name))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(str(path), "is no longer what was written", fix) from error
    if changed:
        raise BadInput(str(folder), f"holds shadow models with other settings ({', '.join(changed)})", fix)


def _statistics(folder: Path, number: int, plan: _Plan, config: AuditConfig) -> pa.Table:
    """The statistics of one shadow model, which is trained and scored where they are missing."""
    title = f"shadow model {number + 1} of {config.shadow}"
    path, key = folder / STATISTICS, plan.key(number)
    if not path.exists():
        console.print(title, style="bold", highlight=False)
        folder.mkdir(mode=0o700, exist_ok=True)
        sweep(folder)
        _train(folder, number, plan, title)
        _score(folder, number, plan, key)
        gc.collect()
    statistics = _read(path, key)
    _tidy(folder, keep=config.keep_shadows)
    return statistics


def _train(folder: Path, number: int, plan: _Plan, title: str) -> None:
    from reticent.train.trainer import tune

    trained = [record for record, inside in zip(plan.records, plan.membership[number], strict=True) if inside]
    if not trained:
        raise BadInput(title, "its coins left no record to train on", "Give more records.")
    tune(
        plan.base,
        trained,
        folder / "model",
        replace(plan.training, seed=plan.seed(number)),
        objectives=plan.objectives,
    )


def _score(folder: Path, number: int, plan: _Plan, key: str) -> None:
    """One pass over the records, by the engine that scores the audited model; its tables go with the weights."""
    from reticent.models.load import load
    from reticent.score.engine import ScoreOptions
    from reticent.score.make_tables import make_tables
    from reticent.score.requests import Request

    request = Request(name="table")
    tables = make_tables(
        [request],
        plan.scored,
        target=load(str(folder / "model"), dtype=plan.dtype, device=plan.device),
        cache=folder / "scoring",
        options=ScoreOptions(max_tokens=plan.max_tokens),
    )
    logp = mean_logp(tables[request])
    inside = {record.id: bool(coin) for record, coin in zip(plan.records, plan.membership[number], strict=True)}
    table = pa.table(
        {
            "record_id": pa.array(logp.record_id, pa.string()),
            "inside": pa.array([inside[id_] for id_ in logp.record_id]),
            "mean_logp": pa.array(logp.mean, pa.float64(), from_pandas=False),
            "tokens": pa.array(logp.tokens, pa.int32()),
        }
    )
    with replacing(folder / STATISTICS) as temporary:
        pq.write_table(table.replace_schema_metadata({"key": key}), temporary)


def _read(path: Path, key: str) -> pa.Table:
    try:
        table = pq.read_table(path)
        same = (table.schema.metadata or {}).get(b"key", b"").decode() == key
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise BadInput(
            str(path), "is no longer what was written", f"Delete {path.parent} to train that shadow model again."
        ) from error
    if not same:
        raise BadInput(
            str(path), "is of another shadow model", f"Delete {path.parent} to train the one that belongs here."
        )
    return table


def _tidy(folder: Path, *, keep: bool) -> None:
    """Delete token tables, which hold private text, and weights, which were trained on it: attacks read statistics."""
    shutil.rmtree(folder / "scoring", ignore_errors=True)
    if not keep:
        shutil.rmtree(folder / "model", ignore_errors=True)
        shutil.rmtree(folder / "shards", ignore_errors=True)
