# SPDX-License-Identifier: Apache-2.0
"""A federation whose server sees sums only, from records to a run folder: what it says, a kill, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.run_folder import RunFolder
from reticent.data.example import help_desk
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.record_privacy import RecordPrivacy
from reticent.federated.secure import ciphers
from reticent.federated.secure.secure_spec import SecureAggregation
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.report.federation_file import federation_schema, read_federation
from reticent.report.federation_page import render_federation
from reticent.testing.naive_ciphers import QuickCiphers
from reticent.testing.tiny import save_tiny
from reticent.workflows.federate import FederationRecipe, federate, federate_through
from reticent.workflows.serve_federation import ServerPlace, serve_federation

SPEC = FederationSpec(
    rounds=4, clients_per_round=5, local_steps=1, local_batch_size=2, local_learning_rate=1e-2, max_tokens=24
)
RECIPE = FederationRecipe(
    federation=replace(SPEC, exchange="ffa"),
    privacy=ClientPrivacy(noise_multiplier=1.5, sampling="shuffled"),
    secure=SecureAggregation(secure_aggregation=True),
)
MAILS = help_desk(users=24, mails_per_user=3)
REAL = ciphers.LibraryCiphers


@pytest.fixture(scope="module", autouse=True)
def quick():
    """The package that the real ciphers come from may not be there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ciphers, "LibraryCiphers", QuickCiphers)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def secure(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return federate(MAILS, base=base, out=tmp_path_factory.mktemp("secure") / "run", recipe=RECIPE)


def test_the_promise_holds_against_the_server_and_the_page_says_which_holds_against_whom(secure: RunFolder) -> None:
    content = json.loads(secure.federation.read_text(encoding="utf-8"))
    jsonschema.validate(content, federation_schema())
    results = read_federation(secure.federation)
    promise = PrivacyGuarantee.from_json(secure.promise.read_text(encoding="utf-8"))
    by_name = {row.who: row for row in results.who_sees}
    told = [row.promise for row in results.who_sees if "ε" in row.promise]
    assert len(told) == 5
    assert all(f"per client at δ = {promise.delta:.2g} (zero out one client)" in text for text in told)
    assert by_name["this machine"].promise == "none"
    assert by_name["the server"].epsilon == pytest.approx(promise.epsilon)
    assert by_name["the world"].epsilon == pytest.approx(promise.epsilon)
    colluding = by_name["the server and 1 client of a round"].epsilon
    assert colluding is not None
    assert promise.epsilon < colluding < math.inf
    assert (promise.unit, promise.relation, promise.units) == ("user", "zero_out", results.clients)
    assert "against the server too" in results.promise
    assert results.stated is not None
    assert (results.stated.delta, results.stated.unit, results.stated.relation) == (promise.delta, "client", "zero_out")
    assert results.stated.epsilon == pytest.approx(promise.epsilon)
    assert results.rounds[-1].epsilon == pytest.approx(promise.epsilon)
    assert results.checks
    assert all(check.passed is not False for check in results.checks)
    page = render_federation(results)
    assert page == secure.federation_page.read_text(encoding="utf-8")
    assert "Rests on" in page
    assert "keeps to the protocol" in page
    assert all(not row.drawn and row.answered is None for row in results.rounds)


def test_no_secret_stays_in_the_folder(secure: RunFolder) -> None:
    names = {path.name for path in secure.root.rglob("*")}
    assert not names & {"_noise.key", "client_memory.jsonl", "updates", ".model.begun.jsonl"}


class Killed(BaseException):
    """The process died."""


def test_a_killed_secure_federation_goes_on_to_the_same_weights(base: str, tmp_path: Path) -> None:
    class Dying:
        def __init__(self, grid):
            self.grid = grid

        def ask(self, round_, clients, arrays):
            for message in self.grid.ask(round_, clients, arrays):
                if round_ == 2 and message.client == clients[-1]:
                    raise Killed
                yield message

    out, twin = tmp_path / "run", tmp_path / "twin"
    with pytest.raises(Killed):
        federate_through(MAILS, base=base, out=out, recipe=RECIPE, wrap=Dying)
    shutil.copytree(out, twin)
    one, two = (
        load_file(federate(MAILS, base=base, out=place, recipe=RECIPE).model / "adapter_model.safetensors")
        for place in (out, twin)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_with_the_real_ciphers_one_client_silent_and_killed_once(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography", reason="real ciphers need cryptography: pip install 'reticent[federated]'")
    monkeypatch.setattr(ciphers, "LibraryCiphers", REAL)
    recipe = replace(RECIPE, federation=replace(RECIPE.federation, rounds=2))

    class Silent:
        """The first client of the first round never answers; with ``dies`` the second round is not finished."""

        def __init__(self, grid, *, dies=False):
            self.grid, self.dies = grid, dies

        def ask(self, round_, clients, arrays):
            for message in self.grid.ask(round_, clients, arrays):
                if round_ == 1 and message.client == clients[0]:
                    continue
                if round_ == 2 and message.client == clients[-1] and self.dies:
                    raise Killed
                yield message

    out, twin = tmp_path / "run", tmp_path / "twin"
    with pytest.raises(Killed):
        federate_through(MAILS, base=base, out=out, recipe=recipe, wrap=lambda grid: Silent(grid, dies=True))
    shutil.copytree(out, twin)
    one, two = (federate_through(MAILS, base=base, out=place, recipe=recipe, wrap=Silent) for place in (out, twin))
    weights = [load_file(run.model / "adapter_model.safetensors") for run in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    rows = [json.loads(line) for line in one.rounds.read_text(encoding="utf-8").splitlines()]
    assert [(row["changed"], [drop["why"] for drop in row["dropped"]]) for row in rows] == [
        (True, ["no answer"]),
        (True, []),
    ]


def test_both_promises_stand_beside_each_other(base: str, tmp_path: Path) -> None:
    recipe = replace(RECIPE, record_privacy=RecordPrivacy(record_noise_multiplier=1.0))
    recipe = replace(recipe, federation=replace(recipe.federation, rounds=1))
    results = read_federation(federate(MAILS, base=base, out=tmp_path / "run", recipe=recipe).federation)
    assert "in 1 round," in results.headline
    server = next(row for row in results.who_sees if row.who == "the server")
    assert "per client" in server.promise
    assert "per record" in server.promise


# ---- refused --------------------------------------------------------------------------------------------------------

ASKED = ["--secure_aggregation", "true", "--epsilon", "8", "--max_tokens", "24"]
REFUSED = {
    "coins": [],
    "median": ["--sampling", "shuffled", "--aggregation", "median"],
    "recorded updates": ["--sampling", "shuffled", "--record_updates", "true"],
    "too few for the threshold": ["--sampling", "shuffled", "--secure_threshold", "6"],
    "few bits": ["--sampling", "shuffled", "--secure_bits", "10"],
    "adaptive": ["--adaptive", "true"],
    "left out": ["--sampling", "shuffled", "--missing", "left_out"],
    "ray": ["--sampling", "shuffled", "--engine", "ray"],
    "groups below the threshold": ["--sampling", "shuffled", "--secure_threshold", "6", "--clients_per_round", "6"],
}


@pytest.mark.parametrize("flags", REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_refused_and_leaves_nothing(base: str, tmp_path: Path, flags: list[str]) -> None:
    rows = [{"text": mail.text, "user": mail.user} for mail in MAILS]
    data = tmp_path / "mails.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    few = [] if "--clients_per_round" in flags else ["--clients_per_round", "5"]
    asked = ["federate", str(data), "--model", base, "--out", str(tmp_path / "run"), *ASKED, *few, *flags]
    assert main(asked) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mails.jsonl"]


def test_a_deployment_refuses_it_with_the_reason(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reticent.federated.flower import flower_switches

    monkeypatch.setattr(flower_switches, "ready", lambda **given: None)
    with pytest.raises(BadInput, match="remembers nothing"):
        serve_federation(tmp_path / "keys", base=base, out=tmp_path / "run", recipe=RECIPE, place=ServerPlace())
