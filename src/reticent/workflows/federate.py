# SPDX-License-Identifier: Apache-2.0
"""From the private text of many clients to a model that was tuned on all of them, and a run folder that can be audited.

The run folder is one as `tune` makes it: records, coins, model. Coins are thrown for clients: those that came up train,
the others are held out whole, so that an audit can compare records and clients.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reticent.auditing.membership.most_exposed import hashed
from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.errors import BadInput
from reticent.core.federation import FederationResults
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.outputs import refuse_empty
from reticent.core.processes import refuse_several
from reticent.core.progress import console
from reticent.core.record import Record, fingerprint, write_records
from reticent.core.redteam_marker import marker_of
from reticent.core.run_folder import RunFolder
from reticent.data.canaries import write_canaries
from reticent.federated.clients import with_clients
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.local_grid import Grid
from reticent.privacy.spec import PrivacySpec
from reticent.workflows.federation_recipe import FederationRecipe as FederationRecipe
from reticent.workflows.federation_recipe import named_base
from reticent.workflows.federation_results import results_of
from reticent.workflows.inputs import write_rejects
from reticent.workflows.learned_base import refuse_learned
from reticent.workflows.training_rows import TrainingRows, training_rows

HELD_OUT = 64
"""Records of clients that take no part, on which the loss is measured after each round."""


def federate(
    records: Sequence[Record],
    *,
    base: str,
    out: str | Path,
    recipe: FederationRecipe | None = None,
    title: str = "",
    rejects: str = "",
    inputs: Mapping[str, str | Path | None] | None = None,
) -> RunFolder:
    """Fine-tune ``base`` on the texts of clients that never leave them, and leave a run folder that can be audited.

    All clients are simulated on this machine, by the recipe's engine, which hides nothing from it. The same call
    again goes on at the round where it was, or returns at once when it is done.

    Args:
        records: unique ids, private text; ``user`` says on which client each lies.
        base: folder, hub id or catalogue name of a pre-trained model.
        out: the run folder; ``federation.json`` and ``federation.html`` in it say how it went.
        recipe: all settings; None for the defaults.
        title: for the page.
        rejects: rows of the data that were skipped, as `workflows.inputs.read_data` has them.
        inputs: what else is read and where it lies: ``out`` may be none of it.

    Raises:
        BadInput: records without a client, too few clients, settings that void the promise or contradict each other;
            the folder holds another run or something of yours, or another process works in it.
        GuaranteeViolated: the self-check of a promise failed; no model is kept.
    """
    return federate_through(
        records, base=base, out=out, recipe=recipe or FederationRecipe(), title=title, rejects=rejects, inputs=inputs
    )


def federate_through(
    records: Sequence[Record],
    *,
    base: str,
    out: str | Path,
    recipe: FederationRecipe,
    wrap: Callable[[Grid], Grid] = lambda grid: grid,
    title: str = "",
    **about: Any,
) -> RunFolder:
    """`federate` with something put between server and clients.

    Args:
        records, base, out, recipe, title: as there.
        wrap: gets the clients as a grid and gives the grid that is asked.
        about: ``rejects`` and ``inputs``, as there.

    Raises:
        BadInput, GuaranteeViolated: as there.
    """
    refuse_several("reticent.federate")
    refuse_empty("out", out)
    run = RunFolder(root=Path(out))
    run.refuse_foreign("federate", {"the base model": base, **(about.get("inputs") or {})})
    _check_method(recipe.federation)
    recipe.engine.check(recipe.federation)
    if recipe.secure.secure_aggregation:
        _check_ciphers()
    if recipe.unit is not None:
        refuse_learned(base, records, unless_private=True)
    named = named_base(base, run)
    config = {"base": named, "data": fingerprint(records), "title": title, **recipe.on_record}
    with run.alone():
        run.refuse_other("federate", config, begun=lambda: _begun(run))
        material = _material(with_clients(records, recipe.clients), base, recipe)
        with run.kept_if(lambda: _begun(run)):
            run.claim("federate", config)
            write_rejects(run, about.get("rejects") or "")
            write_records(run.records, material.records)
            material.membership.write(run.membership)
            if material.planting is not None:
                write_canaries(run.canaries, material.planting.canaries)
            _train(base, material, run, recipe, config, wrap)
    return run


def _material(records: Sequence[Record], base: str, recipe: FederationRecipe) -> TrainingRows:
    """Coins for clients, and canaries. Under a promise no client's rows depend on those of others."""
    stand_in = PrivacySpec(noise_multiplier=1.0, unit=recipe.unit) if recipe.unit else PrivacySpec()
    return training_rows(
        records,
        base=base,
        split_config=replace(recipe.split, split_unit="user", copies=recipe.copies),
        canary_config=recipe.canaries,
        privacy=stand_in,
        max_tokens=recipe.federation.max_tokens,
    )


def _train(
    base: str,
    material: TrainingRows,
    run: RunFolder,
    recipe: FederationRecipe,
    config: Mapping[str, Any],
    wrap: Callable[[Grid], Grid],
) -> None:
    from reticent.federated.engine_config import engine_of
    from reticent.federated.record_ledger import FILE as LEDGER
    from reticent.federated.train_federation import FederationJob, train_federation
    from reticent.federated.update_files import UpdateFiles
    from reticent.report.federation_file import read_federation, write_federation
    from reticent.report.federation_page import write_federation_page
    from reticent.train.checkpoints import close_folder

    _refuse_renamed(run)
    key = run.hash_key()
    job = FederationJob(
        base=base,
        records=material.trained,
        held_out=material.held_out(PrivacySpec(noise_multiplier=1.0, unit="user"))[:HELD_OUT],
        out=run.model,
        spec=recipe.federation,
        privacy=recipe.privacy,
        name_of=lambda client: hashed(client, key),
        updates=UpdateFiles(run.updates, key) if recipe.federation.record_updates else None,
        data=str(config["data"]),
        records_privacy=recipe.record_privacy,
        secure=recipe.secure,
        wrap=wrap,
        engine=engine_of(recipe.engine),
    )
    outcome = train_federation(job)
    if outcome is None:
        close_folder(run.model)  # a process that died while it took the folder away may have left the secret key in it
        console.print(f"{run.model} is finished already.", highlight=False)
        if run.federation.is_file():
            _tell(read_federation(run.federation))
        return
    rows = "".join(json.dumps(encode(row), ensure_ascii=False) + "\n" for row in outcome.state.rows)
    write_text(run.rounds, rows)
    if recipe.record_privacy.is_private:
        ledger = (run.checkpoints / LEDGER).read_text(encoding="utf-8")  # before the folder of the state goes
        write_text(run.root / LEDGER, ledger)
    results = results_of(outcome, recipe, title=str(config["title"]) or run.root.name)
    write_federation(run.federation, results)
    write_federation_page(run.federation_page, read_federation(run.federation))  # as whoever has the file would
    write_manifest(run.manifest, tune=_about(base, run, recipe, config), environment=environment())
    close_folder(run.model)
    _tell(results)


def _refuse_renamed(run: RunFolder) -> None:
    """Refuse to go on under other names of clients: a ledger would take a client that it has for a new one, and the
    same noise could hide two updates."""
    if run.checkpoints.exists() and not (run.root / "hash.key").exists():
        raise BadInput(
            str(run.root),
            "holds an unfinished federation whose hash.key is gone, and its ledgers name clients by that key",
            "Put it back, or start over in another folder (--out); what was spent here stays on record.",
        )


def _about(base: str, run: RunFolder, recipe: FederationRecipe, config: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the training that audits and others read."""
    spec = recipe.federation
    about = {"title": config["title"] or run.root.name, "base": config["base"], "max_tokens": spec.max_tokens}
    about |= {**recipe.on_record, "training": spec.training.on_record, "finished": now()}
    if marker := marker_of(base):
        about["redteam"] = {"the base": marker["kind"]}
    if run.promise.exists():
        about["promise"] = json.loads(run.promise.read_text(encoding="utf-8"))
    return about


def _tell(results: FederationResults) -> None:
    console.print(results.headline, highlight=False, soft_wrap=True)
    for sentence in results.sentences:
        console.print(sentence, highlight=False, soft_wrap=True)


def _check_method(spec: FederationSpec) -> None:
    """Refuse what the training would refuse once private text lies in the folder, or after its last round."""
    from reticent.models.tuning.method import MOST, TUNINGS, check_method

    check_method(spec.method, spec.method_params)
    if spec.exchange != "stacked":
        return
    params = TUNINGS.get(spec.method).defaults | spec.method_params
    rank = params["r"] * spec.clients_per_round * spec.rounds
    if rank > MOST:
        raise BadInput(
            f"exchange='stacked' with r={params['r']}, {spec.clients_per_round} clients, {spec.rounds} rounds",
            f"adds up to one adapter of rank {rank}, and {MOST} is the most that a model is saved with",
            f"Give fewer rounds, fewer clients a round or a smaller r, so that their product is at most {MOST}, or "
            "--exchange ffa.",
        )


def _check_ciphers() -> None:
    """Refuse what the first round would refuse, before anything is written."""
    from reticent.federated.secure import ciphers

    ciphers.LibraryCiphers()


def _begun(run: RunFolder) -> bool:
    """Is there a model, or a state to go on from, or a promise that was drawn on?"""
    from reticent.federated.server_state import FILE

    return run.model.exists() or (run.checkpoints / FILE).exists() or run.begun.exists()
