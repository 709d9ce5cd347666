# SPDX-License-Identifier: Apache-2.0
"""From private text to a fine-tuned model with recorded coins: split, plant canaries, train."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.outputs import refuse_empty
from reticent.core.portable import portable, stands_for
from reticent.core.progress import console
from reticent.core.record import Record, fingerprint, write_records
from reticent.core.redteam_marker import marker_of
from reticent.core.run_folder import RunFolder
from reticent.core.secret import Secret
from reticent.data.canaries import write_canaries
from reticent.data.canaries.canary_config import CanaryConfig as CanaryConfig
from reticent.data.dedup import write_dropped
from reticent.data.secrets_file import carried_secrets, write_secrets
from reticent.data.split_config import SplitConfig as SplitConfig
from reticent.monitor.config import MonitorConfig
from reticent.privacy.spec import PrivacySpec
from reticent.train.config import TuneConfig
from reticent.train.contextual import ContextualConfig
from reticent.train.hardening import HardenConfig
from reticent.train.leading import led
from reticent.workflows.inputs import write_rejects
from reticent.workflows.learned_text import LearnedText, learned_text
from reticent.workflows.recipe import TuneRecipe as TuneRecipe
from reticent.workflows.training_rows import TrainingRows, training_rows


def tune(
    records: Sequence[Record],
    *,
    base: str,
    out: str | Path,
    title: str = "",
    recipe: TuneRecipe | None = None,
    split_config: SplitConfig | None = None,
    canary_config: CanaryConfig | None = None,
    tune_config: TuneConfig | None = None,
    privacy: PrivacySpec | None = None,
    monitor: MonitorConfig | None = None,
    harden: HardenConfig | None = None,
    contextual: ContextualConfig | None = None,
    rejects: str = "",
    targets: Sequence[Secret] = (),
    inputs: Mapping[str, str | Path | None] | None = None,
) -> RunFolder:
    """Throw coins, plant canaries, fine-tune ``base`` on the members and leave a run folder that can be audited.

    The same call again goes on from the last checkpoint, or returns at once when the run is done; with ``resume=False``
    in ``tune_config`` it trains once more and replaces the model, if that was not audited yet. A call that is refused
    before the first checkpoint leaves the folder as it was, but for the record of what a private training
    spent.

    Args:
        records: unique ids, private text. With ``privacy`` the promise is about what is done with these records; that
            none of them depends on others (ids that do not count rows, no cut, filter or join over all of them) is up
            to who made them, and cannot be seen from here. ``read(..., each_alone=True)`` makes such.
        base: folder, hub id or catalogue name of a pre-trained model.
        out: the run folder.
        title: for the report.
        recipe: all settings in one; or give them one by one, as the parts of it that follow here.
        split_config, canary_config, tune_config: who is trained on, what is planted, how it is trained.
        privacy: train with differential privacy; the promise lies in the model folder (``privacy.json``) and in the
            manifest. Canaries are trained on like any record; where the data have users, each secret is a user of its
            own. Hyper-parameters and the choice of the data are not covered.
        monitor: look at a panel of records while training (``monitor.json``, ``panel.parquet``), end it early, or list
            who is at risk (``risk.jsonl``). Not with ``privacy``.
        harden: memorize less, without a promise. With ``dedup_users`` the copies are left out before coins are thrown,
            from what is trained on and from what is held out.
        contextual: learn without teaching what the records' spans mark. Planted secrets are in no span.
        rejects: rows of the data that were skipped, as `Reading` has them; kept in the folder.
        targets: secrets in the records that the audit is to try to get out, such as a scrubber's misses; kept in the
            folder with their coins.
        inputs: what else is read and where it lies, such as the file of the records: ``out`` may be none of it.

    Raises:
        BadInput: the folder holds another run or something of yours, or another process works in it; a side of the
            split is empty; the model cannot be loaded; a setting voids the promise (`data.stability` for the data), or
            does not go with another one; ``max_tokens`` cuts canaries off; several processes were asked for different
            things.
    """
    parts: dict[str, Any] = {"split": split_config, "canaries": canary_config, "training": tune_config}
    parts |= {"privacy": privacy, "monitor": monitor}
    given = {name: value for name, value in parts.items() if value is not None}
    flags = [config for config in (harden, contextual) if config is not None]
    if recipe is not None and (given or flags):
        raise BadInput("recipe with settings beside it", "both say how the run is made", "Put all into the recipe.")
    if recipe is None:
        recipe = TuneRecipe(objectives=tuple(chosen for config in flags for chosen in config.objectives), **given)
    made, run = recipe, RunFolder(root=Path(out))

    def lead() -> RunFolder:
        made.check()
        refuse_empty("out", out)
        run.refuse_foreign("tune", {"the base model": base, **(inputs or {})})
        _check_training(made.training)
        texts = learned_text((inputs or {}).get("the data"))
        if texts is not None:
            console.print(texts.sentence, style="yellow", highlight=False, markup=False, soft_wrap=True)
        _tune(records, base, run, made, title=title, beside=_Beside(rejects=rejects, targets=targets, texts=texts))
        return run

    return led("reticent.tune", lambda: (fingerprint(records), base, str(out), title, made), lead)


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """Kept beside the training: rows that were skipped, secrets to try for, whose the texts are."""

    rejects: str
    targets: Sequence[Secret]
    texts: LearnedText | None


def _tune(
    records: Sequence[Record], base: str, run: RunFolder, recipe: TuneRecipe, *, title: str, beside: _Beside
) -> None:
    """``tune``, with settings that go together and a folder that may be written to."""
    named = _named(base, run)
    config: dict[str, Any] = {"base": named, "data": fingerprint(records), "title": title, **recipe.on_record}
    with run.alone():
        config["training"] = _as_recorded(config["training"], run)
        run.refuse_other("tune", config, begun=lambda: _begun(run))
        _refuse_audited(run, recipe.training)
        material = training_rows(
            records,
            base=base,
            split_config=recipe.split,
            canary_config=recipe.canaries,
            privacy=recipe.privacy,
            objectives=recipe.objectives,
            max_tokens=recipe.training.max_tokens,
        )
        with run.kept_if(lambda: _begun(run)):
            run.claim("tune", config)
            write_rejects(run, beside.rejects)
            _write(material, run, beside.targets)
            _train(base, material, run, recipe, config["data"])
        about = {"title": title or run.root.name, "base": named, "max_tokens": recipe.training.max_tokens}
        about |= {**recipe.on_record, "finished": now(), **_as_it_ran(run)}
        if marker := marker_of(base):
            about["redteam"] = {"the base": marker["kind"]}
        if run.promise.exists():
            about["promise"] = json.loads(run.promise.read_text(encoding="utf-8"))
        learned = {} if beside.texts is None else {"texts": asdict(beside.texts)}
        write_manifest(run.manifest, tune=about, environment=environment(), **learned)


def _write(material: TrainingRows, run: RunFolder, targets: Sequence[Secret]) -> None:
    if material.repeated is not None:
        write_dropped(run.dropped, material.repeated)
        sentence = f"{len(material.repeated)} texts in which users repeat themselves left out; see {run.dropped}"
        console.print(sentence, highlight=False)
    if targets:
        write_secrets(run.targets, carried_secrets(targets, material.as_read, material.records, material.membership))
    write_records(run.records, material.records)
    material.membership.write(run.membership)
    if material.planting is not None:
        write_canaries(run.canaries, material.planting.canaries)


def _train(base: str, material: TrainingRows, run: RunFolder, recipe: TuneRecipe, data: str) -> None:
    from reticent.train.trainer import tune as train

    planting, callbacks = material.planting, []
    trained, held_out = material.trained, material.held_out(recipe.privacy)
    if recipe.monitor.is_on:
        from reticent.monitor.attach import watching

        callbacks = watching(
            recipe.monitor,
            base,
            material.records,
            material.membership,
            planting.canaries if planting is not None else (),
            trained=trained,
            training=recipe.settled,
            out=run.root,
        )
    train(
        base,
        trained,
        run.model,
        recipe.training,
        held_out=[] if recipe.monitor.watches else held_out[:64],  # the monitor looks at held-out records itself
        callbacks=callbacks,
        privacy=recipe.privacy,
        objectives=recipe.objectives,
        data=data,
    )


def _as_it_ran(run: RunFolder) -> dict[str, Any]:
    """How many processes trained the model, and what its steps saw (not of a training in shards); how its frozen base
    lay in memory, where that was not in float32."""
    from reticent.train.outcome import LOG

    log = json.loads((run.model / LOG).read_text(encoding="utf-8"))
    named = {"processes": "processes", "base": "base_in_memory"}
    return {name: log[entry] for entry, name in named.items() if entry in log}


def _named(base: str, run: RunFolder) -> str:
    """The folder's name for the base: as it has it already, where that is the same one."""
    recorded = (run.settings("tune") or {}).get("base")
    return recorded if isinstance(recorded, str) and stands_for(recorded, base, run.root) else portable(base, run.root)


def _as_recorded(training: dict[str, Any], run: RunFolder) -> dict[str, Any]:
    """``training`` as the folder may have it that was made with ``resume=False``."""
    recorded = (run.settings("tune") or {}).get("training")
    return (
        training | {"resume": recorded["resume"]} if isinstance(recorded, dict) and "resume" in recorded else training
    )


def _refuse_audited(run: RunFolder, config: TuneConfig) -> None:
    """Refuse to replace a model of which results lie beside it: they would be taken for those of the new one."""
    if not config.resume and run.model.exists() and run.results.exists():
        raise BadInput(
            f"--resume false in {run.root}",
            "the model there was audited, and its results would be taken for those of the model that replaces it",
            "Choose another folder (--out), or delete this one to start over.",
        )


def _check_training(config: TuneConfig) -> None:
    """Refuse what the training would refuse once private text lies in the folder."""
    from reticent.models.tuning.method import check_method
    from reticent.train.start import check_base_dtype
    from reticent.train.trackers import check_trackers

    check_method(config.method, config.method_params)
    check_base_dtype(config)
    check_trackers(config.report_to)


def _begun(run: RunFolder) -> bool:
    """Is there a model, or a whole checkpoint or a shard to go on from?"""
    from reticent.train.checkpoints import WHOLE
    from reticent.train.sharding import has_begun

    return run.model.exists() or has_begun(run.shards) or any(run.checkpoints.glob(f"checkpoint-*/{WHOLE}"))
