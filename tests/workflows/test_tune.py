# SPDX-License-Identifier: Apache-2.0
"""How tune splits and plants, and a tiny private run from data to report."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reticent.auditing.config import AuditConfig
from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.membership import read_membership
from reticent.core.record import Record, read_records
from reticent.core.run_folder import RunFolder
from reticent.data.canaries import read_canaries
from reticent.data.pii import DETECTORS
from reticent.data.secrets_file import read_secrets
from reticent.data.split_config import throw_coins
from reticent.privacy.spec import PrivacySpec
from reticent.report.results_file import read_results
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.workflows.audit import audit
from reticent.workflows.training_rows import promised_unit
from reticent.workflows.tune import CanaryConfig, SplitConfig, tune

TINY = TuneConfig(epochs=1, learning_rate=1e-2, max_tokens=32, dtype="float32")


def mails(users: int = 30, each: int = 4) -> list[Record]:
    rng = random.Random(0)
    return [
        Record(id=f"u{user}m{mail}", text=f"mail {rng.randrange(10**9)}", user=f"user {user}")
        for user in range(users)
        for mail in range(each)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


@pytest.mark.parametrize(
    ("split_unit", "privacy", "unit"),
    [
        ("auto", None, "user"),
        ("auto", PrivacySpec(), "user"),
        ("auto", PrivacySpec(epsilon=8), "record"),
        ("auto", PrivacySpec(noise_multiplier=1, unit="user"), "user"),
        ("user", PrivacySpec(epsilon=8), "user"),
        ("record", PrivacySpec(epsilon=8, unit="user"), "record"),
    ],
)
def test_coins_are_thrown_for_the_promised_unit_unless_told_otherwise(
    split_unit: str, privacy: PrivacySpec | None, unit: str
) -> None:
    assert throw_coins(mails(), SplitConfig(split_unit=split_unit), promised_unit(privacy)).unit == unit


def test_secrets_of_private_training_are_planted_once() -> None:
    assert CanaryConfig().tiers(private=False) == (1, 4, 16)
    assert CanaryConfig().tiers(private=True) == (1,)
    assert CanaryConfig(canary_repetitions=" 1, 2").tiers(private=True) == (1, 2)
    for wrong in ("", "0", "1,1", "a", "1;4", "-1"):
        with pytest.raises(BadInput, match="canary_repetitions"):
            CanaryConfig(canary_repetitions=wrong)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"split_config": SplitConfig(max_records_per_user=2)}, "can push out another"),
        ({"canary_config": CanaryConfig(canaries=9, canary_repetitions="1,4")}, "about each text once"),
    ],
)
def test_what_a_promise_per_record_does_not_cover_is_refused(
    base: str, tmp_path: Path, options: dict, why: str
) -> None:
    with pytest.raises(BadInput, match=why):
        tune(mails(), base=base, out=tmp_path / "run", privacy=PrivacySpec(epsilon=8), tune_config=TINY, **options)
    assert not (tmp_path / "run").exists()


def test_a_cap_on_each_users_records_is_kept_and_written_down(base: str, tmp_path: Path) -> None:
    run = tune(
        mails(), base=base, out=tmp_path / "run", tune_config=TINY, split_config=SplitConfig(max_records_per_user=1)
    )
    coins = read_membership(run.membership)
    assert max(coins.member[coins.user == user].sum() for user in set(coins.user)) == 1
    log = json.loads((run.model / "train_log.json").read_text())
    assert log["records"] == coins.member.sum()
    assert read_manifest(run.manifest)["tune"]["split"]["max_records_per_user"] == 1


PRIVATE = PrivacySpec(noise_multiplier=2.0, unit="user")
CANARIES = CanaryConfig(canaries=40, canary_controls=10)


@pytest.fixture(scope="module")
def private(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("private") / "run"
    return tune(mails(), base=base, out=out, tune_config=TINY, canary_config=CANARIES, privacy=PRIVATE)


def test_the_promise_is_in_the_manifest_and_each_secret_is_one_of_its_units(private: RunFolder) -> None:
    about = read_manifest(private.manifest)["tune"]
    assert about["privacy"]["unit"] == "user"
    assert about["promise"] == json.loads(private.promise.read_text())
    coins = read_membership(private.membership)
    users = {str(user) for user in coins.user[coins.member]}
    planted = [canary for canary in read_canaries(private.canaries) if canary.planted]
    assert about["promise"]["units"] == len(users) + len(planted)
    assert not {record.id for record in read_records(private.records)} & {canary.id for canary in planted}


def test_the_same_command_again_is_done_and_another_promise_is_refused(private: RunFolder, base: str) -> None:
    before = private.promise.stat().st_mtime_ns
    options = {"base": base, "out": private.root, "tune_config": TINY, "canary_config": CANARIES}
    assert tune(mails(), **options, privacy=PRIVATE) == private
    assert private.promise.stat().st_mtime_ns == before
    for other in (replace(PRIVATE, noise_multiplier=1.0), None):
        with pytest.raises(BadInput, match="other settings"):
            tune(mails(), **options, privacy=other)


def test_an_audit_holds_its_bounds_against_the_promise(private: RunFolder) -> None:
    shutil.copytree(private.root, private.root.with_name("a second training"))
    results = audit(private, AuditConfig(dtype="float32", delta=0.05))
    assert results == read_results(private.results)
    promise = results.promise
    assert promise is not None
    assert {bound.units for bound in promise.bounds} == {"users", "planted secrets"}
    for bound in promise.bounds:
        assert bound.promised == pytest.approx(
            promise.epsilon, rel=0.03
        )  # what assumes Gaussian noise is held against μ
        assert bound.promised >= promise.epsilon
        assert f"δ = {promise.delta:g}, one user" in bound.estimate.unit  # not the audit's own δ
    assert promise.checks
    assert all(check.passed for check in promise.checks)
    assert not promise.broken
    page = private.report.read_text(encoding="utf-8")
    assert promise.sentence in page
    (together,) = promise.together
    assert together.startswith("2 private trainings together: ε = ")
    assert together in page
    assert 'id="promise"' in page


def pairs(records: list[Record]) -> list[Record]:
    return [Record(id=r.id, user=r.user, prompt="Reply:", completion=f" {r.text}") for r in records]


def test_secrets_of_prompts_and_completions_are_trained_on_and_ranked(base: str, tmp_path: Path) -> None:
    config = replace(TINY, epochs=4, max_tokens=64)
    canaries = CanaryConfig(canaries=40, canary_controls=60, canary_repetitions="8", canary_kind="email")
    run = tune(pairs(mails()), base=base, out=tmp_path / "run", tune_config=config, canary_config=canaries)
    planted = read_canaries(run.canaries)
    assert {canary.shape for canary in planted} == {"pair"}
    log = json.loads((run.model / "train_log.json").read_text())
    members = int(read_membership(run.membership).member.sum())
    assert log["records"] == members + 8 * sum(canary.planted for canary in planted)
    results = audit(run, AuditConfig(attacks="loss", dtype="float32"))
    tiers = {tier.tier: tier for tier in results.exposure}
    assert tiers["planted 8 times"].bits.value > tiers["not planted (control)"].bits.value


@pytest.mark.parametrize(
    ("canaries", "why"),
    [
        (CanaryConfig(canaries=9), "are cut off.*--max_tokens 29 or more"),
        (CanaryConfig(canaries=9, canary_kind="random_tokens", canary_controls=2), "only 2|there are only"),
        (CanaryConfig(canary_users=4, canary_words=2), "beyond the first 12 tokens"),
    ],
)
def test_canaries_that_training_would_not_see_are_refused_and_leave_no_folder(
    base: str, tmp_path: Path, canaries: CanaryConfig, why: str
) -> None:
    short = replace(TINY, max_tokens=12)
    with pytest.raises(BadInput, match=why):
        tune(mails(), base=base, out=tmp_path / "run", tune_config=short, canary_config=canaries)
    assert list(tmp_path.iterdir()) == []


def test_what_a_scrubber_missed_is_in_the_run_folder(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """prepare -> tune: the list lies beside the data, goes into the run by itself, and has the coins of the run."""
    monkeypatch.setattr("reticent.data.pii.missed.DETECTORS", [DETECTORS.get("phone")])
    source, prepared = tmp_path / "mails.jsonl", tmp_path / "prepared.parquet"
    rows = [
        {"id": r.id, "user": r.user, "text": f"{r.text}, write to {r.id}@corp.com or 07911 123456"} for r in mails()
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scrub = ["--scrub", "placeholder", "--detectors", "email", "--id-field", "id", "--out", str(prepared)]
    assert main(["prepare", str(source), *scrub]) == 0
    flags = ["--model", base, "--out", str(tmp_path / "run"), "--epochs", "1", "--max-tokens", "24"]
    assert main(["tune", str(prepared), *flags]) == 0
    run = RunFolder(root=tmp_path / "run")
    targets = read_secrets(run.targets)
    assert [target.secret for target in targets if target.kind == "PHONE"] == ["07911 123456"] * len(rows)
    assert {target.group for target in targets} == {"missed by the scrubber"}
    coins = read_membership(run.membership)
    member = dict(zip(coins.record_id, coins.member, strict=True))
    assert all(target.member == member[target.record.id] for target in targets)
    assert {target.record for target in targets} <= set(read_records(run.records))


def test_begun_anew_the_same_model_is_trained_again_until_it_is_audited(base: str, tmp_path: Path) -> None:
    """`--resume false`: also where the folder was made with it, by this or an earlier version."""
    source = tmp_path / "mails.jsonl"
    source.write_text("".join(json.dumps({"id": r.id, "user": r.user, "text": r.text}) + "\n" for r in mails()))
    out = tmp_path / "run"
    words = ["tune", str(source), "--model", base, "--out", str(out), "--epochs", "1", "--max-tokens", "32"]
    log = out / "model" / "train_log.json"
    assert main(words) == 0
    first = log.stat().st_ino
    assert main([*words, "--resume", "false"]) == 0
    again = log.stat().st_ino
    assert again != first
    assert main(words) == 0
    assert log.stat().st_ino == again
    said = out / "tune.yaml"
    said.write_text(said.read_text().replace("resume: true", "resume: false"))
    assert main(words) == 0
    assert main([*words, "--resume", "false"]) == 0
    audit(RunFolder(root=out), AuditConfig(attacks="loss", dtype="float32"))
    weights = log.read_bytes()
    assert main(words) == 0
    assert main([*words, "--resume", "false"]) == 2
    assert log.read_bytes() == weights


def test_what_a_refusal_advises_is_not_refused(base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The base was exchanged in its place: what lies in the folder is of another one, and may be begun anew."""
    own = tmp_path / "base"
    shutil.copytree(base, own)
    run = tune(mails(), base=str(own), out=tmp_path / "run", tune_config=TINY)
    shutil.rmtree(own)
    save_tiny(own, seed=5)
    with pytest.raises(BadInput, match=r"--resume false"):
        tune(mails(), base=str(own), out=run.root, tune_config=TINY)
    with pytest.raises(BadInput, match="other settings") as refused:
        tune(mails(), base=str(own), out=run.root, tune_config=replace(TINY, epochs=2, resume=False))
    assert "--resume" not in str(refused.value)
    tune(mails(), base=str(own), out=run.root, tune_config=replace(TINY, resume=False))
    tune(mails(), base=str(own), out=run.root, tune_config=TINY)
    assert "finished already" in "".join(capfd.readouterr())
