# SPDX-License-Identifier: Apache-2.0
"""From private text to synthetic text, with a promise to each record or user, and a folder that says what it covers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reticent.auditing.synthetic.synthetic_file import read_promise
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.outputs import hash_of, refuse_empty
from reticent.core.portable import portable, stands_for
from reticent.core.processes import refuse_several
from reticent.core.progress import console, progress
from reticent.core.record import Record, fingerprint, write_records
from reticent.core.run_folder import RunFolder
from reticent.core.synthesis import SynthesisResults
from reticent.data.canaries import write_canaries
from reticent.data.stability import refuse_unstable
from reticent.data.user_spelling import tell_alike
from reticent.privacy.spec import PrivacySpec
from reticent.report.synthesis_file import DIGEST, read_synthesis, write_synthesis
from reticent.synthesis.synthesis_mechanism import (
    MECHANISMS,
    SynthesisMaterial,
    SynthesisMechanism,
    SynthesisOutcome,
    SynthesisPlan,
    SynthesisTools,
)
from reticent.workflows.inputs import write_rejects
from reticent.workflows.learned_base import refuse_learned
from reticent.workflows.synthesis_recipe import SynthesisRecipe as SynthesisRecipe

if TYPE_CHECKING:
    from reticent.privacy.guarantee import PrivacyGuarantee


def synthesize(
    records: Sequence[Record],
    *,
    base: str,
    out: str | Path,
    recipe: SynthesisRecipe,
    title: str = "",
    rejects: str = "",
    inputs: Mapping[str, str | Path | None] | None = None,
) -> RunFolder:
    """Make synthetic text out of private text, under a promise of differential privacy.

    What the promise covers stands in ``synthesis.json``: all texts together, by the mechanism that was chosen, for each
    record or each user. Synthetic text is not anonymous by being synthetic; it is as private as that promise says. The
    same call again goes on at the step where it was, to the same texts, or returns at once when they are all there.

    Args:
        records: unique ids, private text; that none of them depends on others is up to who made them, see `tune`.
        base: folder, hub id or catalogue name of a public model, which has seen none of the records.
        out: the run folder; ``synthetic.jsonl`` in it holds the texts, without those that came out empty.
        recipe: all settings.
        title: for the page.
        rejects: rows of the data that were skipped, as `workflows.inputs.read_data` has them.
        inputs: what else is read and where it lies: ``out`` may be none of it.

    Raises:
        BadInput: a mechanism without its promise, or ε with the one that has none; too few units, with the number that
            would do; texts that are too long; the folder holds another run or something of yours.
        GuaranteeViolated: the self-check failed; nothing of it may be released.
    """
    refuse_several("reticent.synthesize")
    refuse_empty("out", out)
    spec = recipe.synthesis
    mechanism = MECHANISMS.get(spec.mechanism)
    mechanism.check(spec)
    refuse_unstable(spec.unit if mechanism.promises else None, recipe.split, recipe.canaries)
    run = RunFolder(root=Path(out))
    run.refuse_foreign("synthesize", {"the model": base, **(inputs or {})})
    data = fingerprint(records)
    if mechanism.promises:
        refuse_learned(base, records)
        tell_alike(record.user for record in records if spec.unit == "user")
    config = {"base": _named(base, run), "data": data, "title": title, **recipe.on_record}
    with run.alone():
        run.refuse_other("synthesize", config, begun=lambda: _begun(run))
        if run.synthesis_page.exists():  # the last thing that is written
            _close(run)
            _refuse_gone(run)
            console.print(f"{run.synthetic} is finished already.", highlight=False, soft_wrap=True)
            _tell(read_synthesis(run.synthesis))
            return run
        with run.kept_if(lambda: _begun(run)):
            run.claim("synthesize", config)
            write_rejects(run, rejects)
            read = records if mechanism.tunes else _read(records, base, run, recipe)
            outcome, plan = _made(mechanism, read, base, run, recipe)
        _finish(mechanism, outcome, plan, run, config)
    return run


def _refuse_gone(run: RunFolder) -> None:
    """Refuse to call texts finished that are not there, or no longer those that were made: their key is gone, so they
    cannot be made again."""
    gone = [path.name for path in (run.synthetic, run.synthesis) if not path.is_file()]
    if gone:
        raise BadInput(
            str(run.root),
            f"was finished, and {' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} no longer there; the secret "
            "key was deleted at the end, so the same texts cannot be made again",
            "Put back what was taken away, or start over in another folder (--out); what was spent here stays on "
            "record.",
        )
    read_promise(str(run.synthetic))


def _read(records: Sequence[Record], base: str, run: RunFolder, recipe: SynthesisRecipe) -> Sequence[Record]:
    """The records that are read: all, or those whose coins came up, and planted secrets; the coins stay in the folder.

    As with a private training, one unit more or less changes the rows of no other (`training_rows`).
    """
    spec = recipe.synthesis
    if not (spec.hold_out or recipe.plants):
        return records
    from reticent.workflows.training_rows import training_rows

    rows = training_rows(
        records,
        base=base,
        split_config=recipe.split,
        canary_config=recipe.planted,
        privacy=PrivacySpec(noise_multiplier=1.0, unit=spec.unit),  # stands in: who is promised, not what
        max_tokens=spec.reference_tokens,
    )
    write_records(run.records, rows.records)
    rows.membership.write(run.membership)
    if rows.planting is not None:
        write_canaries(run.canaries, rows.planting.canaries)
    return rows.trained


def _made(
    mechanism: SynthesisMechanism, records: Sequence[Record], base: str, run: RunFolder, recipe: SynthesisRecipe
) -> tuple[SynthesisOutcome, SynthesisPlan]:
    from reticent.models.load import load
    from reticent.synthesis.step_store import StepStore, has_spent
    from reticent.train.private.step_log import KEY, open_key

    if has_spent(run.synthesis_state) and not (run.synthesis_state / KEY).exists():
        raise BadInput(
            str(run.root),
            "holds steps that were spent under a secret key that is gone, so nothing can be gone on with",
            "Start over in another folder (--out); what was spent here stays on record.",
        )
    run.synthesis_state.mkdir(mode=0o700, exist_ok=True)
    spec, training = recipe.synthesis, recipe.training
    material = SynthesisMaterial(records=records, spec=spec, key=open_key(run.synthesis_state))
    plan = mechanism.settle(material)
    store = StepStore(run.synthesis_state, plan.about, key=material.key, steps=plan.steps)
    if mechanism.tunes and mechanism.promises:
        _refuse_another_model(run, len(store.spent) - (spec.condition != "none"))
    with progress("Writing", spec.count, unit="texts") as advance:
        told = 0

        def so_far(texts: int) -> None:
            nonlocal told
            advance(max(texts - told, 0))
            told = max(texts, told)

        tools = SynthesisTools(
            load=lambda: load(base, dtype=training.dtype, device=training.device),
            store=store,
            tune=lambda privacy, trained: _tuned(trained, base, run, recipe, privacy),
            load_tuned=lambda folder: load(str(folder), dtype=training.dtype, device=training.device),
            advance=so_far,
        )
        return plan.write(tools), plan


def _refuse_another_model(run: RunFolder, sampled: int) -> None:
    """Refuse to train again behind texts of a model that is gone: two trainings would be spent, and one is counted.

    Args:
        run: of the texts.
        sampled: steps of texts that were made.
    """
    model = RunFolder(root=run.synthesis_training).model
    if sampled > 0 and not model.exists():
        raise BadInput(
            str(run.root),
            f"has texts of a model that is no longer there ({run.synthesis_training.name}/{model.name}): another one "
            "would be trained, and what is promised counts one training",
            "Put it back, or start over in another folder (--out); what was spent here stays on record.",
        )


def _tuned(
    records: Sequence[Record], base: str, run: RunFolder, recipe: SynthesisRecipe, privacy: PrivacySpec
) -> tuple[Path, PrivacyGuarantee | None]:
    """Tune the model, in a run folder of its own that can be audited; half of the units are held out by coin there."""
    from reticent.privacy.guarantee import PrivacyGuarantee
    from reticent.workflows.recipe import TuneRecipe
    from reticent.workflows.tune import tune

    trained = tune(
        records,
        base=base,
        out=run.synthesis_training,
        recipe=TuneRecipe(split=recipe.split, training=recipe.training, privacy=privacy, canaries=recipe.planted),
    )
    if not trained.promise.exists():
        return trained.model, None
    return trained.model, PrivacyGuarantee.from_json(trained.promise.read_text(encoding="utf-8"))


def _finish(
    mechanism: SynthesisMechanism,
    outcome: SynthesisOutcome,
    plan: SynthesisPlan,
    run: RunFolder,
    config: Mapping[str, Any],
) -> None:
    from reticent.report.synthesis_page import write_synthesis_page
    from reticent.workflows.synthesis_results import results_of

    rows = [{"id": f"s{number:06d}", "text": text} for number, text in enumerate(outcome.texts)]
    rows = [row | {"topic": topic} for row, topic in zip(rows, outcome.topics, strict=True)] if outcome.topics else rows
    rows = [row for row in rows if str(row["text"]).strip()]  # no verb reads a row without text
    write_text(run.synthetic, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    results = results_of(mechanism, outcome, plan, config, title=str(config["title"]) or run.root.name)
    results = replace(results, provenance={**results.provenance, DIGEST: hash_of(run.synthetic)})
    write_synthesis(run.synthesis, results)
    write_synthesis_page(run.synthesis_page, read_synthesis(run.synthesis))  # as whoever has the file would
    _close(run)
    _tell(results)


def _tell(results: SynthesisResults) -> None:
    console.print(results.headline, highlight=False, soft_wrap=True)
    for sentence in results.sentences:
        console.print(sentence, highlight=False, soft_wrap=True)


def _close(run: RunFolder) -> None:
    """Take away the secret key, and texts that lie elsewhere now; the ledger stays."""
    from reticent.synthesis.step_store import forget_texts
    from reticent.train.private.step_log import forget_key

    forget_texts(run.synthesis_state)
    forget_key(run.synthesis_state)


def _named(base: str, run: RunFolder) -> str:
    """The folder's name for the model: as it has it already, where that is the same one."""
    recorded = (run.settings("synthesize") or {}).get("base")
    return recorded if isinstance(recorded, str) and stands_for(recorded, base, run.root) else portable(base, run.root)


def _begun(run: RunFolder) -> bool:
    """Was anything spent, here or by a training?"""
    from reticent.synthesis.step_store import has_spent

    training = RunFolder(root=run.synthesis_training)
    return (
        run.synthesis_page.exists()
        or has_spent(run.synthesis_state)
        or training.model.exists()
        or training.checkpoints.exists()
        or training.begun.exists()
    )
