# SPDX-License-Identifier: Apache-2.0
"""A federation of tiny models with noise inside clients: what is promised, written, and gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reticent.attacks.federated.recorded_updates import RecordedUpdates
from reticent.auditing.config import AuditConfig
from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.example import help_desk
from reticent.data.split_config import SplitConfig
from reticent.federated import private_steps
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.local_grid import Grid, Message
from reticent.federated.record_privacy import RecordPrivacy
from reticent.federated.update import Update
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.spec import PrivacySpec
from reticent.report.federation_file import read_federation
from reticent.testing.tiny import save_tiny
from reticent.train.begun import read_begun
from reticent.workflows.audit import audit
from reticent.workflows.federate import FederationRecipe, _material, federate, federate_through

SPEC = FederationSpec(
    rounds=2,
    clients_per_round=3,
    local_steps=2,
    local_batch_size=2,
    local_learning_rate=1e-2,
    max_tokens=24,
    record_updates=True,
)
RECIPE = FederationRecipe(federation=SPEC, record_privacy=RecordPrivacy(record_noise_multiplier=1.0))
MAILS = help_desk(users=24, mails_per_user=6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def inside(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return federate(MAILS, base=base, out=tmp_path_factory.mktemp("inside") / "run", recipe=RECIPE)


class Killed(BaseException):
    """The process died."""


class Dying:
    """A grid that dies in its second round, before the last answer."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        for message in self.grid.ask(round_, clients, arrays):
            if round_ == 2 and message.client == clients[-1]:
                raise Killed
            yield message


def test_the_promise_is_per_record_and_holds_for_model_and_updates(inside: RunFolder) -> None:
    promise = PrivacyGuarantee.from_json(inside.promise.read_text(encoding="utf-8"))
    results = read_federation(inside.federation)
    assert (promise.unit, promise.steps) == ("record", 4)
    assert results.promise == ""
    assert "per record" in results.record_promise
    assert "against everyone who sees this client's updates" in results.record_promise
    server = next(row for row in results.who_sees if row.who.startswith("a server"))
    assert server.promise == results.record_promise
    assert all(check.passed is not False for check in results.checks)
    assert {check.name for check in results.checks} >= {
        "inside clients: batches",
        "inside clients: steps on the ledgers",
    }
    page = inside.federation_page.read_text(encoding="utf-8")
    assert results.record_promise.split(", against")[0] in page
    assert "A user with many records pays more" in page
    lines = (inside.root / "record_ledger.jsonl").read_text(encoding="utf-8").splitlines()
    recorded = RecordedUpdates(inside.updates)
    assert len(lines) == 1 + sum(len(recorded.clients(number)) for number in recorded.rounds())
    assert not list(inside.root.rglob("_noise.key"))


@pytest.mark.slow
def test_an_audit_says_that_the_promise_holds_for_updates_too(inside: RunFolder) -> None:
    results = audit(inside, AuditConfig(attacks="loss", dtype="float32", device="cpu"))
    assert results.promise is not None
    assert results.promise.unit == "record"
    server = next(section for section in results.sections if section.name == "updates-server")
    assert any("promise per record" in note for note in server.notes)
    assert not any("do not break it" in note for note in server.notes)


def test_a_killed_federation_goes_on_to_the_same_weights(base: str, tmp_path: Path) -> None:
    """Each run has a key of its own, so the twin is a copy of what the kill left."""
    out = tmp_path / "run"
    with pytest.raises(Killed):
        federate_through(MAILS, base=base, out=out, recipe=RECIPE, wrap=Dying)
    assert len(read_begun(RunFolder(root=out).model)) == 1
    spent = (RunFolder(root=out).checkpoints / "record_ledger.jsonl").read_text().splitlines()
    twin = tmp_path / "twin"
    shutil.copytree(out, twin)
    (twin / "hash.key").rename(tmp_path / "hash.key")
    with pytest.raises(BadInput, match=r"hash\.key is gone"):
        federate(MAILS, base=base, out=twin, recipe=RECIPE)
    (tmp_path / "hash.key").rename(twin / "hash.key")
    one, two = (RunFolder(root=federate(MAILS, base=base, out=place, recipe=RECIPE).root) for place in (out, twin))
    first, second = (load_file(run.model / "adapter_model.safetensors") for run in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (one.root / "record_ledger.jsonl").read_text().splitlines()[: len(spent)] == spent
    assert not read_begun(one.model)


@pytest.mark.slow
def test_two_promises_are_two_lines_and_never_one_number(base: str, tmp_path: Path) -> None:
    recipe = replace(RECIPE, privacy=ClientPrivacy(noise_multiplier=1.0), federation=replace(SPEC, exchange="ffa"))
    run = federate(MAILS, base=base, out=tmp_path / "run", recipe=recipe)
    results = read_federation(run.federation)
    assert "per client" in results.promise
    assert "per record" not in results.promise
    assert "per record" in results.record_promise
    assert PrivacyGuarantee.from_json(run.promise.read_text(encoding="utf-8")).unit == "user"
    assert results.sentences[:2] == (results.promise, results.record_promise)


def test_noise_that_is_missing_inside_a_client_stops_the_run(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = private_steps.add_noise
    monkeypatch.setattr(private_steps, "add_noise", lambda x, **given: real(x, **given | {"std": 0.0}))
    with pytest.raises(GuaranteeViolated, match="noise of standard deviation"):
        federate(MAILS, base=base, out=tmp_path / "run", recipe=RECIPE)
    run = RunFolder(root=tmp_path / "run")
    assert not run.model.exists()
    assert [started.broken for started in read_begun(run.model)] == [True]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--record_epsilon", "8", "--exchange", "stacked"], "base changes from round to round"),
        (["--record_epsilon", "8", "--record_delta", "0.5"], "publishing one of them whole"),
        (["--record_clip_norm", "2"], "no record would be protected"),
        (["--record_epsilon", "8", "--engine", "ray"], "would have none"),
        (["--record_epsilon", "8", "--record_noise_multiplier", "1"], "each follows from the other"),
    ],
)
def test_what_cannot_be_had_is_refused_and_leaves_nothing(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], why: str
) -> None:
    data = tmp_path / "mails.jsonl"
    data.write_text("".join(json.dumps({"text": mail.text, "user": mail.user}) + "\n" for mail in MAILS))
    small = ["--max_tokens", "24", "--clients_per_round", "3", "--rounds", "2"]
    assert main(["federate", str(data), "--model", base, "--out", str(tmp_path / "run"), *small, *flags]) == 2
    assert why in " ".join(capsys.readouterr().err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mails.jsonl"]


def test_a_step_by_which_records_change_those_of_others_is_refused() -> None:
    with pytest.raises(BadInput, match="promise per record"):
        replace(RECIPE, canaries=replace(RECIPE.canaries, canary_users=1))
    with pytest.raises(BadInput, match="what another one trains on"):
        replace(RECIPE, split=SplitConfig(copies="all"))


def test_a_record_of_one_client_changes_no_row_of_another() -> None:
    """Each client has the same text: whoever it is taken from, the others train on theirs, and who is held out too."""
    users = dict.fromkeys(str(mail.user) for mail in MAILS)
    shared = [Record(id=f"{user}-same", text="the same text of them all", user=user) for user in users]
    whole = rows_of([*MAILS, *shared])
    assert sum(ids.count(f"{user}-same") for user, (ids, _) in whole.items()) > 1
    for gone in (shared[0], shared[-1]):
        left = rows_of([*MAILS, *(record for record in shared if record is not gone)])
        assert {user for user in whole if left[user] != whole[user]} <= {gone.user}
    assert any(f"{user}-same" in held_out for user, (_, held_out) in whole.items())


def rows_of(records: list[Record]) -> dict[str | None, tuple[list[str], list[str]]]:
    """Ids of what each client trains on, and of what is held out of it."""
    rows = _material(records, "nowhere", RECIPE)
    out = rows.held_out(PrivacySpec(noise_multiplier=1.0, unit="user"))
    sides = (rows.trained, out)
    return {
        user: tuple([record.id for record in side if record.user == user] for side in sides)  # type: ignore[misc]
        for user in dict.fromkeys(record.user for record in records)
    }


def test_no_digest_of_private_texts_lies_beside_the_weights(
    inside: RunFolder, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log goes where the model goes; whoever guesses all texts but one could try the last one by such a digest."""
    log = json.loads((inside.model / "train_log.json").read_text(encoding="utf-8"))
    assert "privacy" in log
    assert "key" not in log
    assert federate(MAILS, base=base, out=inside.root, recipe=RECIPE).model.exists(), "it is known as finished"
    printed = capsys.readouterr()
    assert "per record at δ" in printed.out + printed.err, "and whoever asks again is told again what is promised"
