# SPDX-License-Identifier: Apache-2.0
"""The program that Flower's launcher starts on the server of a deployment: it runs the federation, leaves its folder.

It has a process of its own, so what it has to say in the end goes through a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reticent.auditing.membership.most_exposed import hashed
from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.errors import BadInput, ReticentError, Unusable
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.record import read_records
from reticent.core.run_folder import RunFolder
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.flower.node_engine import NodeClocks, over_nodes
from reticent.workflows.federation_recipe import FederationRecipe, named_base
from reticent.workflows.federation_results import EngineReport, results_of

DEPLOYED = "deployment: Flower's server and a node on each client's machine"


@dataclass(frozen=True, kw_only=True)
class ServerPlan:
    """A federation of a deployment with nothing left open, as a file holds it.

    Args:
        base: folder, hub id or catalogue name.
        out: the run folder.
        title: of the page.
        federation: fields of `FederationSpec`.
        privacy: fields of `ClientPrivacy`.
        nodes: id of each client's node, by the client's name.
        held_out: file with records that the loss is measured on; empty without.
        patience: seconds in which all clients have to join.
        timeout: seconds after which a client counts as one that does not answer.
    """

    base: str
    out: str
    title: str
    federation: dict[str, Any]
    privacy: dict[str, Any]
    nodes: dict[str, int]
    held_out: str
    patience: float
    timeout: float

    @property
    def recipe(self) -> FederationRecipe:
        """The settings as those of any federation."""
        return FederationRecipe(
            federation=FederationSpec(**self.federation), privacy=ClientPrivacy(**self.privacy), clients="by-key"
        )


def run_plan(plan: ServerPlan, grid: Any) -> None:
    """Run the federation and write its folder.

    Args:
        plan: of it.
        grid: of Flower's server.

    Raises:
        BadInput, GuaranteeViolated: as `reticent.federated.train_federation` says.
        Unusable: clients did not join in time.
    """
    from reticent.federated.train_federation import FederationJob, train_federation
    from reticent.federated.update_files import UpdateFiles
    from reticent.report.federation_file import read_federation, write_federation
    from reticent.report.federation_page import write_federation_page
    from reticent.train.checkpoints import close_folder

    run, recipe, clocks = RunFolder(root=Path(plan.out)), plan.recipe, NodeClocks()
    key = run.hash_key()
    job = FederationJob(
        base=plan.base,
        records=(),
        held_out=read_records(plan.held_out) if plan.held_out else (),
        out=run.model,
        spec=recipe.federation,
        privacy=recipe.privacy,
        name_of=lambda client: hashed(client, key),
        updates=UpdateFiles(run.updates, key) if recipe.federation.record_updates else None,
        elsewhere=tuple(plan.nodes),
        engine=partial(
            over_nodes, grid=grid, nodes=plan.nodes, patience=plan.patience, timeout=plan.timeout, clocks=clocks
        ),
    )
    outcome = train_federation(job)
    if outcome is None:
        close_folder(run.model)
        return
    rows = "".join(json.dumps(encode(row), ensure_ascii=False) + "\n" for row in outcome.state.rows)
    write_text(run.rounds, rows)
    engine = EngineReport(name=DEPLOYED, apart=True, loading_share=clocks.loading_share)
    results = results_of(outcome, recipe, title=plan.title, engine=engine)
    write_federation(run.federation, results)
    write_federation_page(run.federation_page, read_federation(run.federation))  # as whoever has the file would
    about = {
        "title": plan.title,
        "base": named_base(plan.base, run),
        "max_tokens": recipe.federation.max_tokens,
        **recipe.on_record,
    }
    about |= {"training": recipe.federation.training.on_record, "finished": now()}
    if run.promise.exists():
        about["promise"] = json.loads(run.promise.read_text(encoding="utf-8"))
    write_manifest(run.manifest, tune=about, environment=environment())
    close_folder(run.model)


def failure_file(plan: Path) -> Path:
    """Where the program of ``plan`` says why it failed."""
    return plan.with_name("failure.json")


def failure_of(plan: Path) -> ReticentError | None:
    """The failure that the program of ``plan`` left word of; None where it did not fail."""
    try:
        failure = json.loads(failure_file(plan).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    kind = {"BadInput": BadInput, "Unusable": Unusable}.get(failure["kind"])
    if kind is not None:
        return kind(failure["given"], failure["why"], failure["fix"])
    return ReticentError(failure["text"])


def _as_failure(error: ReticentError) -> Mapping[str, str]:
    if isinstance(error, BadInput):
        kind = "Unusable" if isinstance(error, Unusable) else "BadInput"
        return {"kind": kind, "given": error.given, "why": error.why, "fix": error.fix}
    return {"kind": type(error).__name__, "text": str(error)}


def serve_plan(place: Path, grid: Any) -> None:
    """Run the plan in a file, and leave beside it why it failed, where it did.

    Args:
        place: of the plan.
        grid: of Flower's server.
    """
    try:
        run_plan(ServerPlan(**json.loads(place.read_text(encoding="utf-8"))), grid)
    except ReticentError as error:
        failure_file(place).write_text(json.dumps(_as_failure(error)), encoding="utf-8")
        raise


def written(plan: ServerPlan, path: Path) -> None:
    """Write a plan where its program looks for it."""
    path.write_text(json.dumps(asdict(plan)), encoding="utf-8")
