# SPDX-License-Identifier: Apache-2.0
"""Records and people are taken out of a tiny model that knows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from reticent.auditing.config import AuditConfig
from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.models.tuned import read_tuned
from reticent.testing.random_mails import random_mails
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.unlearning.case_of_unlearned import case_of_unlearned
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_file import read_request
from reticent.unlearning.request_plan import plan_request
from reticent.unlearning.retain_budget import spent
from reticent.unlearning.run_rows import run_rows, trained_rows
from reticent.unlearning.stopping import read_looks
from reticent.workflows.audit import audit
from reticent.workflows.tune import tune
from reticent.workflows.unlearn import describe, unlearn

QUICK = UnlearnConfig(method="gradient_difference", epochs=4, learning_rate=2e-3, margin=0.2, retain_budget=1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("unlearn")
    base = save_tiny(folder / "base")
    return tune(
        random_mails(users=24, mails_per_user=8, prompts=True),
        base=str(base),
        out=folder / "run",
        split_config=SplitConfig(split_unit="user", train_fraction=0.7, known_fraction=0.0),
        canary_config=CanaryConfig(canaries=0),
        tune_config=TuneConfig(method="lora", epochs=4, learning_rate=1e-2, max_tokens=96),
    )


@pytest.fixture(scope="module")
def without_one(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run without its first user. Do not change it."""
    out = tmp_path_factory.mktemp("unlearned") / "without"
    return unlearn(run, out=out, forget=ForgetRequest(forget_users=some_users(run, 1)), config=QUICK)


def some_users(run: RunFolder, count: int) -> tuple[str, ...]:
    users = sorted({record.user for record in trained_rows(run) if record.user is not None})
    return tuple(users[:count])


def test_people_are_unlearned_and_the_folder_says_how(run: RunFolder, tmp_path: Path) -> None:
    users = some_users(run, 6)
    out = unlearn(run, out=tmp_path / "without", forget=ForgetRequest(forget_users=users), config=QUICK)
    rows = read_request(out.request)
    assert {row.user for row in rows} == set(users)
    tuned = read_tuned(out.model)
    assert tuned is not None
    assert tuned.parent
    assert tuned.request
    assert tuned.method == "lora"
    looks = read_looks(out.looks)
    assert looks[0].step == 0
    assert looks[-1].forget_loss > looks[0].forget_loss
    about = read_manifest(out.manifest)["unlearn"]
    assert about["request"]["rows"] == len(rows)
    assert not (out.root / "records.parquet").exists()
    assert "order" not in "".join(path.read_text() for path in out.root.glob("*.y*ml"))
    assert {record.id for record in trained_rows(out)} == {record.id for record in trained_rows(run)} - {
        row.record_id for row in rows
    }


def test_a_user_is_compared_with_all_that_coins_kept_out(run: RunFolder, tmp_path: Path) -> None:
    """Texts of users who are out would have been trained on had the user's coin fallen the other way."""
    plan = plan_request(run, ForgetRequest(forget_users=some_users(run, 1)))
    rows = plan.forget.rows
    roles = {rows.membership.role[rows.place[record.id]] for record in plan.unseen.records}
    inside = {rows.membership.user_member[rows.place[record.id]] for record in plan.unseen.records}
    assert (roles, inside) == ({"evaluate", "spare"}, {False})


def test_the_same_call_again_returns_at_once(run: RunFolder, without_one: RunFolder) -> None:
    out, request = without_one, ForgetRequest(forget_users=some_users(run, 1))
    weights = load_file(out.model / "adapter_model.safetensors")
    stamp = (out.model / "adapter_model.safetensors").stat().st_mtime_ns
    assert unlearn(run, out=out.root, forget=request, config=QUICK).root == out.root
    assert (out.model / "adapter_model.safetensors").stat().st_mtime_ns == stamp
    assert weights
    with pytest.raises(BadInput, match="other settings"):
        unlearn(run, out=out.root, forget=ForgetRequest(forget_users=some_users(run, 2)), config=QUICK)


def test_requests_follow_each_other(run: RunFolder, without_one: RunFolder, tmp_path: Path) -> None:
    first, second = some_users(run, 2)
    two = unlearn(without_one, out=tmp_path / "two", forget=ForgetRequest(forget_users=second), config=QUICK)
    assert len(run_rows(two).chain.links) == 2
    assert not {record.user for record in trained_rows(two)} & {first, second}
    with pytest.raises(BadInput, match=r"forgotten|earlier"):
        unlearn(two, out=tmp_path / "three", forget=ForgetRequest(forget_users=first), config=QUICK)


def test_a_budget_that_earlier_requests_used_up(run: RunFolder, without_one: RunFolder, tmp_path: Path) -> None:
    second = ForgetRequest(forget_users=some_users(run, 2)[1:])
    used = spent(run_rows(without_one).chain.links)
    assert used > 1e-4
    config = replace(QUICK, retain_budget=used / 2)
    with pytest.raises(BadInput, match="is used up"):
        unlearn(without_one, out=tmp_path / "none", forget=second, config=config)
    assert not (tmp_path / "none").exists()
    assert any("used up by earlier requests" in line for line in describe(without_one, second, config))


def test_nothing_is_kept_where_the_budget_breaks_at_once(run: RunFolder, tmp_path: Path) -> None:
    config = UnlearnConfig(method="gradient_ascent", epochs=1, learning_rate=1.0, retain_budget=1e-3)
    with pytest.raises(BadInput, match=r"retain_budget=0.001: broke before any look"):
        unlearn(run, out=tmp_path / "out", forget=ForgetRequest(forget_users=some_users(run, 1)), config=config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["retrain", "negation"])
def test_methods_without_a_loss(run: RunFolder, tmp_path: Path, method: str) -> None:
    config = UnlearnConfig(method=method, epochs=1, learning_rate=1e-3)
    out = unlearn(run, out=tmp_path / "out", forget=ForgetRequest(forget_users=some_users(run, 1)), config=config)
    assert (out.model / "adapter_model.safetensors").exists()
    assert not (out.root / "overfitted").exists()


def test_a_method_that_moves_the_base_is_refused_on_an_adapter(run: RunFolder, tmp_path: Path) -> None:
    request = ForgetRequest(forget_users=some_users(run, 1))
    with pytest.raises(BadInput, match="the run has an adapter"):
        unlearn(run, out=tmp_path / "out", forget=request, config=UnlearnConfig(method="loku"))
    with pytest.raises(BadInput, match=r"blocks, counted"):
        unlearn(run, out=tmp_path / "out", forget=request, config=UnlearnConfig(method="rmu"))
    assert not (tmp_path / "out").exists()


def test_the_manifest_holds_no_id(run: RunFolder, without_one: RunFolder) -> None:
    (user,), out = some_users(run, 1), without_one
    texts = [path.read_text(encoding="utf-8") for path in (out.manifest, out.root / "unlearn.yaml", out.looks)]
    assert not [text for text in texts if user in text]
    json.loads(texts[0])


def test_an_audit_of_what_is_left(run: RunFolder, tmp_path: Path) -> None:
    """Forgotten rows are no members any more, and no clean held-out rows; results go to a folder of their own."""
    users = some_users(run, 2)
    out = unlearn(run, out=tmp_path / "out", forget=ForgetRequest(forget_users=users), config=QUICK)
    with pytest.raises(BadInput, match="whose report is that of its verification"):
        audit(out, AuditConfig(attacks="loss"))
    case = case_of_unlearned(out)
    gone = {row.record_id for row in read_request(out.request)}
    assert gone
    assert not gone & set(case.evaluated.record_id)
    results = audit(out, AuditConfig(attacks="loss", dtype="float32"), out=tmp_path / "audited")
    assert results.counts["trained_on"] == len(trained_rows(out))
