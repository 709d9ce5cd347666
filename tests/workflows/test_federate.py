# SPDX-License-Identifier: Apache-2.0
"""A federation of tiny models from records to a run folder that is audited, gated, compared, and left by a client."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

from reticent.auditing.config import AuditConfig
from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.run_folder import RunFolder
from reticent.data.example import help_desk
from reticent.federated import private_round, train_federation
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.local_grid import Grid, Message
from reticent.federated.update import Update
from reticent.federated.update_files import UpdateFiles
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.report.federation_file import federation_schema, read_federation
from reticent.report.federation_page import render_federation
from reticent.spending.recorded_training import trainings_in
from reticent.testing.tiny import save_tiny
from reticent.train.begun import read_begun
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest
from reticent.workflows.audit import audit
from reticent.workflows.diff import diff
from reticent.workflows.federate import FederationRecipe, federate, federate_through
from reticent.workflows.gate import gate
from reticent.workflows.learned_base import refuse_learned
from reticent.workflows.unlearn import unlearn

SPEC = FederationSpec(
    rounds=3, clients_per_round=4, local_steps=1, local_batch_size=2, local_learning_rate=1e-2, max_tokens=24
)
PRIVATE = FederationRecipe(federation=replace(SPEC, exchange="ffa"), privacy=ClientPrivacy(noise_multiplier=1.0))
MAILS = help_desk(users=32, mails_per_user=4)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def plain(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    recipe = FederationRecipe(federation=replace(SPEC, record_updates=True))
    return federate(MAILS, base=base, out=tmp_path_factory.mktemp("plain") / "run", recipe=recipe)


@pytest.fixture(scope="module")
def private(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return federate(MAILS, base=base, out=tmp_path_factory.mktemp("private") / "run", recipe=PRIVATE)


class Killed(BaseException):
    """The process died."""


class Dying:
    """A grid that dies at its second round, before the last answer."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        for message in self.grid.ask(round_, clients, arrays):
            if round_ == 2 and message.client == clients[-1]:
                raise Killed
            yield message


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.model / "adapter_model.safetensors")


def test_a_federated_run_is_audited_gated_compared_and_left_by_a_client(plain: RunFolder, tmp_path: Path) -> None:
    results = audit(plain, AuditConfig(attacks="loss"), out=None)
    levels = {finding.level for finding in results.findings if finding.metric == "auc"}
    assert levels == {"record", "user"}
    assert gate(results, max_auc=0.6).exit_code == 1
    assert not diff(plain.root, plain.root).more
    membership = read_membership(plain.membership)
    leaving = str(membership.user[membership.member][0])
    config = UnlearnConfig(method="npo", epochs=1, stop="epochs")
    without = unlearn(plain, out=tmp_path / "without", forget=ForgetRequest(forget_users=leaving), config=config)
    assert without.model.exists()
    with pytest.raises(BadInput, match="of a federation"):
        again = UnlearnConfig(method="retrain")
        unlearn(plain, out=tmp_path / "again", forget=ForgetRequest(forget_users=leaving), config=again)


def test_recorded_updates_are_its_owners_only_and_give_the_final_weights(plain: RunFolder) -> None:
    members = read_membership(plain.membership)
    files = UpdateFiles(plain.updates, plain.hash_key(), sorted(set(members.user[members.member])))
    assert files.recorded.rounds() == (1, 2, 3)
    for path in [plain.updates, *plain.updates.rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    last = files.read(3)
    updates = [files.read(3, client) for client in files.clients_in(3)]
    saved = {name.replace(".weight", ".default.weight"): array for name, array in weights(plain).items()}
    for name, array in last.items():
        after = array + sum(update[name] for update in updates) / len(updates)
        torch.testing.assert_close(saved[name], after)
    assert all(len(files.recorded.clients(round_)) == len(files.clients_in(round_)) == 4 for round_ in (1, 2, 3))
    assert not any(name in str(path) for path in plain.updates.rglob("*") for name in set(members.user))


def test_without_recording_no_update_stays(private: RunFolder) -> None:
    names = {path.name for path in private.root.rglob("*")}
    assert "updates" not in names
    assert not names & {"_noise.key", "federation_state.safetensors", ".model.training", ".model.begun.jsonl"}


def test_the_promise_lies_with_the_model_and_the_page_tells_no_more(private: RunFolder) -> None:
    promise = PrivacyGuarantee.from_json(private.promise.read_text(encoding="utf-8"))
    results = read_federation(private.federation)
    content = json.loads(private.federation.read_text(encoding="utf-8"))
    jsonschema.validate(content, federation_schema())
    assert (promise.unit, promise.steps, promise.units) == ("user", 3, results.clients)
    assert results.rounds[-1].epsilon == pytest.approx(promise.epsilon)
    assert "per client" in results.promise
    assert all(not row.drawn and row.answered is None and row.median_norm is None for row in results.rounds)
    assert results.checks
    assert all(check.passed is not False for check in results.checks)
    known = [json.loads(line) for line in private.rounds.read_text(encoding="utf-8").splitlines()]
    drawn = {name for row in known for name in row["drawn"]}
    page = private.federation_page.read_text(encoding="utf-8")
    assert drawn
    assert not any(name in page for name in drawn)
    assert page == render_federation(results)
    assert results.sentences[0].startswith("With only")


def test_a_base_that_learned_the_clients_texts_without_a_promise_is_refused(
    plain: RunFolder, private: RunFolder, tmp_path: Path
) -> None:
    """What it knows of them is covered by no noise of the federation. One with a promise of its own costs that."""
    with pytest.raises(BadInput, match="was tuned on these very texts"):
        federate(MAILS, base=str(plain.model), out=tmp_path / "run", recipe=PRIVATE)
    assert not (tmp_path / "run").exists()
    refuse_learned(str(private.model), MAILS, unless_private=True)
    with pytest.raises(BadInput, match="was tuned on these very texts"):
        refuse_learned(str(private.model), MAILS)


def test_curves_are_lines_and_no_column_is_empty(plain: RunFolder, private: RunFolder) -> None:
    for run in (plain, private):
        page = render_federation(read_federation(run.federation))
        assert "curve" in page.split("</style>")[1]
        assert ".curve { fill: none" in page
    assert ">Drawn<" in render_federation(read_federation(plain.federation))
    assert ">Drawn<" not in render_federation(read_federation(private.federation))


def test_the_ledger_of_trainings_counts_a_private_federation(private: RunFolder) -> None:
    (training,) = trainings_in([private.root])
    assert training.is_counted
    assert training.promise is not None
    assert training.promise.steps == 3


def test_a_private_federation_is_audited_beside_its_promise(private: RunFolder, tmp_path: Path) -> None:
    results = audit(private, AuditConfig(attacks="loss"), out=None)
    assert results.promise is not None
    assert "each user of this run is a client" in results.promise.sentence


def test_a_killed_federation_goes_on_to_the_same_weights(base: str, private: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Killed):
        federate_through(MAILS, base=base, out=out, recipe=PRIVATE, wrap=Dying)
    run = RunFolder(root=out)
    assert run.begun.exists()
    key = (run.checkpoints / "_noise.key").read_bytes()
    twin = tmp_path / "twin"
    shutil.copytree(out, twin)
    federate(MAILS, base=base, out=out, recipe=PRIVATE)
    federate(MAILS, base=base, out=twin, recipe=PRIVATE)
    one, two = weights(run), weights(RunFolder(root=twin))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert len(key) == 32
    assert not run.begun.exists()
    with pytest.raises(BadInput, match="other settings"):
        federate(MAILS, base=base, out=out, recipe=replace(PRIVATE, federation=replace(SPEC, rounds=4)))


def test_a_killed_federation_without_a_promise_gives_the_uninterrupted_weights(
    base: str, plain: RunFolder, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = FederationRecipe(federation=replace(SPEC, record_updates=True))
    with pytest.raises(Killed):
        federate_through(MAILS, base=base, out=out, recipe=recipe, wrap=Dying)
    again = weights(federate(MAILS, base=base, out=out, recipe=recipe))
    assert all(torch.equal(array, again[name]) for name, array in weights(plain).items())


def test_no_text_of_a_client_decides_how_others_are_computed(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kinds of attention round in other ways: which is taken goes by settings alone."""
    taken = []

    def settle(loaded: Any, *sizes: int) -> None:
        taken.append(sizes)
        raise InterruptedError

    monkeypatch.setattr(train_federation, "settle_attention", settle)
    longer = [replace(record, text=record.text * 5) if place == 0 else record for place, record in enumerate(MAILS)]
    for number, mails in enumerate((MAILS, longer)):
        with pytest.raises(InterruptedError):
            federate(mails, base=base, out=tmp_path / str(number), recipe=PRIVATE)
    assert taken[0] == taken[1]
    assert taken[0] == (SPEC.local_batch_size, SPEC.max_tokens)


def test_stacked_factors_make_one_adapter_of_all_ranks(base: str, tmp_path: Path) -> None:
    spec = replace(SPEC, rounds=2, exchange="stacked", method_params={"r": 2, "alpha": 4.0})
    run = federate(MAILS, base=base, out=tmp_path / "run", recipe=FederationRecipe(federation=spec))
    ranks = {array.shape[0] for name, array in weights(run).items() if "lora_A" in name}
    assert ranks == {2 * 4 * 2}
    log = json.loads((run.model / "train_log.json").read_text(encoding="utf-8"))
    assert log["held_out"]["tuned"]["loss"] < log["held_out"]["base"]["loss"]


def test_noise_that_is_missing_stops_the_run_and_nothing_of_it_is_kept(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = private_round.add_noise
    monkeypatch.setattr(private_round, "add_noise", lambda x, **given: noise(x, **given | {"scale": 0.5}))
    out = tmp_path / "run"
    with pytest.raises(GuaranteeViolated, match="noise of standard deviation"):
        federate(MAILS, base=base, out=out, recipe=PRIVATE)
    run = RunFolder(root=out)
    assert not run.model.exists()
    assert not run.checkpoints.exists()
    assert [started.broken for started in read_begun(run.model)] == [True]


# ---- refused --------------------------------------------------------------------------------------------------------


def write_mails(path: Path) -> str:
    rows = [{"text": mail.text, "user": mail.user} for mail in MAILS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


REFUSED = {
    "more clients a round than there are": ["--clients_per_round", "40"],
    "quorum": ["--quorum", "9", "--clients_per_round", "8"],
    "too few for epsilon": ["--epsilon", "0.05", "--clients_per_round", "3"],
    "delta": ["--epsilon", "8", "--delta", "0.5"],
    "stragglers": ["--epsilon", "8", "--missing", "left_out"],
    "median": ["--epsilon", "8", "--aggregation", "median"],
    "krum": ["--epsilon", "8", "--aggregation", "krum"],
    "size": ["--epsilon", "8", "--weighting", "size"],
    "stacked": ["--epsilon", "8", "--exchange", "stacked"],
    "stacked to a rank that cannot be saved": ["--exchange", "stacked", "--rounds", "65"],
    "record coins": ["--split_unit", "record"],
    "groups without data": ["--clients", "300"],
    "copies across clients": ["--epsilon", "8", "--copies", "all"],
    "privacy without epsilon": ["--clip_norm", "2"],
}


@pytest.mark.parametrize("flags", REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_refused_and_leaves_nothing(base: str, tmp_path: Path, flags: list[str]) -> None:
    data = write_mails(tmp_path / "mails.jsonl")
    small = ["--max_tokens", "24"] + ([] if "--clients_per_round" in flags else ["--clients_per_round", "4"])
    assert main(["federate", data, "--model", base, "--out", str(tmp_path / "run"), *small, *flags]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mails.jsonl"]


def test_a_folder_of_clients_is_federated_by_the_command(base: str, tmp_path: Path) -> None:
    clients = tmp_path / "clients"
    clients.mkdir()
    for number in range(8):
        rows = [{"text": f"note {n} of the place {number}, kept for the week"} for n in range(6)]
        (clients / f"site{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--clients_per_round", "2", "--rounds", "1", "--local_steps", "1", "--max_tokens", "24"]
    out = tmp_path / "run"
    assert main(["federate", str(clients), "--clients", str(clients), "--model", base, "--out", str(out), *flags]) == 0
    membership = read_membership(out / "membership.parquet")
    assert set(membership.user) <= {f"site{number}" for number in range(8)}
    assert (out / "federation.html").exists()
