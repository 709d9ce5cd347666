# SPDX-License-Identifier: Apache-2.0
"""Audits of recorded federations of tiny models: what is replayed is what was trained, what leaks is seen, nothing
private leaves, and what was not recorded could not be looked at."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reticent.attacks.federated.recorded_updates import RecordedUpdates, client_hash
from reticent.auditing.case import from_run
from reticent.auditing.config import AuditConfig
from reticent.auditing.updates.collect import recorded_spec
from reticent.auditing.updates.looked_at import CLIENTS, ROUNDS, TEXTS, look_at
from reticent.auditing.updates.replayed_rounds import open_replay
from reticent.auditing.updates.text_readings import read_texts_of
from reticent.auditing.updates.token_attack import TokenAttack
from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.record import read_records
from reticent.core.results import Results
from reticent.core.run_folder import RunFolder
from reticent.data.example import help_desk
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.report.results_file import read_results
from reticent.testing.tiny import save_tiny, tiny_tokenizer
from reticent.workflows.audit import audit
from reticent.workflows.federate import FederationRecipe, federate

SPEC = FederationSpec(
    rounds=3,
    clients_per_round=6,
    local_steps=6,
    local_batch_size=2,
    local_learning_rate=3e-2,
    max_tokens=32,
    record_updates=True,
)
MAILS = help_desk(users=48, mails_per_user=6)
CONFIG = AuditConfig(attacks="loss", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny"))


def made(base: str, out: Path, recipe: FederationRecipe) -> RunFolder:
    return federate(MAILS, base=base, out=out / "run", recipe=recipe)


@pytest.fixture(scope="module")
def plain(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made(base, tmp_path_factory.mktemp("plain"), FederationRecipe(federation=SPEC))


@pytest.fixture(scope="module")
def audited(plain: RunFolder) -> Results:
    audit(plain, CONFIG)
    return read_results(plain.results)


def section(results: Results, name: str) -> Any:
    return next(part for part in results.sections if part.name == name)


def found(results: Results) -> dict[str, Any]:
    return {
        finding.attack: finding
        for part in results.sections
        if part.name.startswith("updates-")
        for finding in part.findings
    }


# ---- what is found --------------------------------------------------------------------------------------------------


def test_a_server_tells_texts_clients_and_sources_from_single_updates(audited: Results) -> None:
    findings = found(audited)
    assert findings["update_loss_drop"].estimate.value > 0.7
    assert findings["update_cosine"].estimate.value > 0.6
    assert findings["update_user_inference"].estimate.value > 0.7
    source = findings["source_inference"]
    assert source.estimate.lo > 1 / 6
    assert source.severity != "none"
    assert findings["update_inversion"].metric == "advantage"
    levels = {finding.level for finding in findings.values()}
    assert levels == {"update", "update_client", "update_source", "update_tokens"}
    assert "Single updates" in {kind.name for kind in audited.kinds if kind.tried}
    assert not {kind.name for kind in audited.kinds if kind.tried} & {"Poisoning and backdoors"}


def test_each_round_has_its_row_and_the_cost_is_said(audited: Results) -> None:
    for name in ("updates-server", "updates-source", "updates-inversion"):
        (table,) = section(audited, name).tables
        assert [row[0] for row in table.rows] == [1, 2, 3]
    notes = " ".join(section(audited, "updates-server").notes)
    assert "3 of 3 recorded rounds" in notes
    assert "18 of 18 updates" in notes
    assert f"at most {ROUNDS} rounds, {CLIENTS} clients" in notes


def test_no_private_text_and_no_client_is_in_the_results_or_on_the_page(plain: RunFolder, audited: Results) -> None:
    page = plain.report.read_text(encoding="utf-8") + plain.results.read_text(encoding="utf-8")
    assert "What a server sees".lower() in page.lower()
    assert "Attacks by round" in page
    parts = [part for part in audited.sections if part.name.startswith("updates-")]
    told = json.dumps([str(part) for part in parts])
    for record in read_records(plain.records):
        assert record.plain[:40] not in told
        assert str(record.user) not in told
    for client in RecordedUpdates(plain.updates).clients(1):
        assert client not in page


def test_a_second_audit_reads_what_the_first_kept(plain: RunFolder, audited: Results, monkeypatch: Any) -> None:
    from reticent.auditing.updates import collect

    monkeypatch.setattr(collect, "read_texts_of", None)
    again = audit(plain, CONFIG)
    assert found(again)["update_loss_drop"] == found(audited)["update_loss_drop"]


# ---- what is replayed -----------------------------------------------------------------------------------------------


def last_model(run: RunFolder, base: str) -> tuple[Any, Any]:
    """The model after the last round, replayed by hand, and the one that was saved."""
    recorded, spec = RecordedUpdates(run.updates), recorded_spec(run)
    assert spec is not None
    replayed = open_replay(recorded, spec, target=str(run.model), base=base, device="cpu")
    last = recorded.rounds()[-1]
    start = replayed.begin(last)
    if spec.exchange == "stacked":
        replayed._merge(last)
        replayed.put({name: 0 * array for name, array in start.items()})
    else:
        updates = [recorded.update(last, client) for client in recorded.clients(last)]
        replayed.put({n: a + sum(u[n] for u in updates) / np.float32(len(updates)) for n, a in start.items()})
    return replayed.model, load(str(run.model), base=base, dtype="float32", device="cpu").model


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"exchange": "ffa"}, {"exchange": "stacked", "method_params": {"r": 2}}])
def test_frozen_and_stacked_factors_are_replayed_to_the_model_that_was_saved(
    base: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    run = made(base, tmp_path, FederationRecipe(federation=replace(SPEC, rounds=2, **change)))
    ids = torch.tensor([encode(MAILS[0], tiny_tokenizer(), max_tokens=32).token_id.tolist()])
    with torch.no_grad():
        mine, saved = (model(input_ids=ids).logits for model in last_model(run, base))
    torch.testing.assert_close(mine, saved, rtol=1e-4, atol=1e-4)
    results = audit(run, CONFIG)
    findings = found(results)
    assert findings["update_loss_drop"].estimate.value > 0.6
    assert not any("could not" in line for line in results.not_tested if "update" in line)


def test_losses_are_those_of_a_naive_loop_on_the_clients_model(plain: RunFolder, base: str) -> None:
    model, _ = last_model(plain, base)
    rows = [encode(record, tiny_tokenizer(), max_tokens=32) for record in MAILS[:5]]
    read = read_texts_of(model, rows, pad=0)
    for place, row in enumerate(rows):
        ids = torch.tensor([row.token_id.tolist()])
        with torch.no_grad():
            loss = float(model(input_ids=ids, labels=ids).loss)
            greedy = model(input_ids=ids).logits[0, :-1].argmax(-1)
        assert read.loss[place] == pytest.approx(loss, rel=1e-4)
        half = (len(row) - 1) // 2
        assert read.greedy[place] == float((greedy[-half:] == ids[0, -half:]).all())


def test_full_tuning_gives_tokens_back_by_embedding_rows(base: str, tmp_path: Path) -> None:
    spec = replace(SPEC, rounds=1, local_steps=1, method="full", local_optimizer="sgd", local_learning_rate=0.5)
    run = made(base, tmp_path, FederationRecipe(federation=spec))
    results = audit(run, CONFIG)
    assert found(results)["update_inversion"].estimate.value > 0.2
    ((*_, token_auc, of_others, _, _, _, _, _, _),) = section(results, "updates-inversion").tables[0].rows
    assert token_auc > 0.95 > of_others


def test_one_sgd_step_tells_the_tokens_by_the_span(plain: RunFolder, base: str) -> None:
    """The attack as it is wired, on an update that is made here: one text, one step."""
    model = load(str(plain.model), base=base, dtype="float32", device="cpu").model
    names = sorted(RecordedUpdates(plain.updates).start(1))
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in names}
    row = encode(MAILS[0], tiny_tokenizer(), max_tokens=8)
    ids = torch.tensor([row.token_id.tolist()])
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    gradients = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, list(parameters.values()))
    start = {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}
    update = {name: -0.1 * gradient.numpy() for name, gradient in zip(parameters, gradients, strict=True)}
    attack = TokenAttack(model, names, exact=True)
    assert {matrix.name.split(".")[-1] for matrix in attack.first} <= {"q_proj", "k_proj", "v_proj"}
    scores = attack.scores(start, update)
    assert scores is not None
    inside = sorted(set(row.token_id[:-1].tolist()))
    others = [token for token in range(attack.vocabulary) if token not in set(row.token_id.tolist())]
    assert scores[inside].min() > np.quantile(scores[others], 0.9)
    zero = {name: 0 * array for name, array in update.items()}
    assert attack.scores(start, zero) is None


# ---- what cannot be looked at ---------------------------------------------------------------------------------------


def copied(run: RunFolder, place: Path) -> RunFolder:
    shutil.copytree(run.root, place)
    return RunFolder(root=place)


def test_a_run_without_recorded_updates_could_not_be_looked_at(plain: RunFolder, tmp_path: Path) -> None:
    run = copied(plain, tmp_path / "run")
    settings = run.root / "federate.yaml"
    settings.write_text(settings.read_text().replace("record_updates: true", "record_updates: false"))
    results = audit(run, CONFIG)
    assert not found(results)
    (line,) = [line for line in results.not_tested if line.startswith("Single updates")]
    assert "could not look" in line
    assert "--record_updates true" in line


@pytest.mark.parametrize("fault", ["gone", "another key"])
def test_updates_that_are_gone_or_name_nobody_are_no_clean_bill(plain: RunFolder, tmp_path: Path, fault: str) -> None:
    run = copied(plain, tmp_path / "run")
    if fault == "gone":
        shutil.rmtree(run.updates)
    else:
        (run.root / "hash.key").write_text("ab" * 32)
    results = audit(run, CONFIG)
    assert not found(results)
    assert any("could not look" in line for line in results.not_tested)


@pytest.mark.parametrize("fault", ["cut", "other arrays"])
def test_a_broken_update_is_refused_by_name(plain: RunFolder, tmp_path: Path, fault: str) -> None:
    run = copied(plain, tmp_path / "run")
    recorded = RecordedUpdates(run.updates)
    if fault == "cut":
        for client in recorded.clients(1):
            path = run.updates / "round-0001" / f"client-{client}.safetensors"
            path.write_bytes(path.read_bytes()[:100])
    else:
        recorded.write({"strange": np.ones(2, dtype=np.float32)}, round_=1)
    with pytest.raises(BadInput, match=r"cannot be read|are not of a weight"):
        audit(run, CONFIG)


# ---- who is held against whom ---------------------------------------------------------------------------------------


def test_suspects_are_held_against_held_out_clients_and_nobody_twice(plain: RunFolder) -> None:
    key, membership = plain.hash_key(), read_membership(plain.membership)
    looked = look_at(from_run(plain), RecordedUpdates(plain.updates), tiny_tokenizer(), key=key, seed=0)
    inside = {client_hash(str(user), key) for user in membership.user[membership.user_member]}
    assert {name for names in looked.clients.values() for name in names} <= inside
    outsiders = [texts.outsider for texts in looked.texts.values()]
    assert not set(outsiders) & inside
    assert len(set(outsiders)) == min(len(outsiders), len(set(membership.user[~membership.user_member])))
    assert all(0 < len(texts.trained) <= TEXTS for texts in looked.texts.values())
    other = look_at(from_run(plain), RecordedUpdates(plain.updates), tiny_tokenizer(), key=key, seed=1)
    assert [t.outsider for t in other.texts.values()] != outsiders


# ---- beside a promise -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_single_updates_do_not_break_a_promise_to_clients_and_canary_clients_stand_beside_it(
    base: str, tmp_path: Path
) -> None:
    from reticent.data.canaries.canary_config import CanaryConfig

    recipe = FederationRecipe(
        federation=replace(SPEC, rounds=2),
        privacy=ClientPrivacy(noise_multiplier=1.0),
        canaries=CanaryConfig(canaries=24, canary_controls=40),
    )
    results = audit(made(base, tmp_path, recipe), CONFIG)
    assert results.promise is not None
    assert not any(finding.metric == "promise_broken" for finding in results.findings)
    notes = section(results, "updates-server").notes
    assert any("do not break it" in note for note in notes)
    planted = [row for row in results.promise.bounds if row.units == "planted secrets"]
    assert planted
    assert {row.unit for row in planted} == {"user"}
    primary = [row for row in planted if not row.alone]
    assert primary
    assert all(row.promised is not None and row.estimate.lo <= row.promised for row in primary)
