# SPDX-License-Identifier: Apache-2.0
"""The verdicts on models of which it is known how much they have forgotten."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record, fingerprint
from reticent.core.unlearning import AFTER, BASE, BEFORE, RETRAINED
from reticent.core.unlearning_words import AMONG_RETRAINED, LIKE_UNSEEN, MARKED, STILL_KNOWN, STRONGEST, TOO_FEW
from reticent.report.unlearning_file import read_unlearning, write_unlearning
from reticent.report.unlearning_page import render_unlearning
from reticent.unlearning.verification import look_into as module
from reticent.unlearning.verification import pulls
from reticent.unlearning.verification.certificate import certificate_of
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.extraction import REWORDED
from reticent.unlearning.verification.look_into import judge


def test_a_retrained_model_is_like_unseen(judged):
    outcome = judged("retrained")
    assert outcome.check("membership").word == LIKE_UNSEEN
    assert outcome.check("among_retrained").word == AMONG_RETRAINED
    assert outcome.verdict.headline == STRONGEST
    assert outcome.verdict.sentences[0].startswith("Among 3 retrained models")


def test_an_untouched_model_is_still_known(judged):
    outcome = judged("untouched")
    assert {outcome.check(name).word for name in ("membership", "among_retrained")} == {STILL_KNOWN}
    assert outcome.verdict.status == "still_known"
    assert max(estimate.lo for estimate in outcome.forget_aucs) > 0.5


def test_a_model_that_merely_refuses_is_not_like_unseen(judged):
    outcome = judged("refusing")
    assert outcome.check("membership").word in (STILL_KNOWN, MARKED)
    assert outcome.verdict.status in ("still_known", "marked")


def test_an_over_unlearned_model_is_marked_by_its_absence(judged):
    outcome = judged("over_unlearned")
    assert outcome.check("membership").word == MARKED
    assert outcome.verdict.status == "marked"
    loss = next(number for number in outcome.check("membership").measured if number.what == "loss")
    assert (loss.role, loss.word) == (AFTER, MARKED)
    assert loss.estimate.hi < 0.5


@pytest.mark.parametrize("kind", ["retrained", "untouched"])
def test_every_check_looks_at_all_controls(judged, kind):
    outcome = judged(kind)
    for check in outcome.checks:
        roles = {number.role for number in check.measured}
        assert not check.ran or check.name == "among_retrained" or roles >= {AFTER, BEFORE, RETRAINED}, check.name
        for table in check.section.tables:
            names = {column.name for column in table.columns}
            assert names >= {"untouched", "retrained"} or len(names) <= 3, table.name
    assert [model.role for model in outcome.models] == [AFTER, BEFORE, BASE, *[RETRAINED] * 3]


def test_results_survive_their_file_and_hold_no_text(judged, zoo, tmp_path):
    outcome = judged("retrained")
    digest = write_unlearning(tmp_path / "unlearning.json", outcome)
    assert read_unlearning(tmp_path / "unlearning.json") == outcome
    certificate = certificate_of(outcome, results_sha256=digest)
    written = (tmp_path / "unlearning.json").read_text() + render_unlearning(outcome) + str(certificate)
    for record in zoo.rows.forget:
        assert record.prompt not in written
        assert record.completion.strip() not in written
    assert str(zoo.root) not in written
    assert fingerprint(zoo.rows.forget) not in written  # a hash of few short texts can be guessed


def test_text_is_shown_where_it_is_asked_for(zoo, tmp_path):
    few = {"forget": zoo.rows.forget[:10], "unseen": zoo.rows.unseen[:10], "retain": (), "retrained": ()}
    outcome = zoo.verify("untouched", {"show_text": True, "samples": 2}, base=None, **few)
    tables = {table.name: table for table in outcome.check("extraction").section.tables}
    assert {row[0] for row in tables["unlearning-texts"].rows} == {record.id for record in zoo.rows.forget[:10]}
    assert outcome.holds_text
    write_unlearning(tmp_path / "unlearning.json", outcome)
    assert (tmp_path / "unlearning.json").stat().st_mode & 0o077 == 0
    near = [number for number in outcome.check("extraction").measured if "near word for word" in number.what]
    assert {number.role for number in near} == {AFTER, BEFORE}
    assert [model.role for model in outcome.models] == [AFTER, BEFORE]
    assert {number.what for number in outcome.check("membership").measured} >= {"loss", "zlib"}


def test_questions_are_asked_in_other_words_beside_all_controls(zoo):
    """Of a model that learned the words of each question by heart other words bring less out."""
    rows = zoo.rows.forget
    words = {row.id: row.prompt if number % 2 else f"say {row.prompt}" for number, row in enumerate(rows[1:])}
    outcome = zoo.verify("untouched", paraphrases=words).check("extraction")
    roles = {number.role: number.estimate for number in outcome.measured if number.what == REWORDED[1]}
    assert set(roles) == {AFTER, BEFORE, BASE, RETRAINED}
    assert {estimate.n for estimate in roles.values()} == {len(rows) - 1}
    assert roles[BEFORE].value > 0, "half of them are asked as they were trained"
    plain = next(number for number in outcome.measured if number.what == "16 samples, word for word")
    assert roles[AFTER].value < plain.estimate.value
    prefixed = [number for number in outcome.measured if "first 5 tokens" in number.what and number.role == BEFORE]
    assert max(number.estimate.value for number in prefixed) > plain.estimate.value


def test_a_killed_verification_goes_on_without_running_a_model_again(zoo, judged, monkeypatch):
    before = judged("retrained")

    def refused(*given, **settings):
        raise AssertionError("a model is run again")

    monkeypatch.setattr(pulls, "force", refused)
    monkeypatch.setattr("reticent.score.make_tables.score", refused)
    collected = []
    monkeypatch.setattr(module.gc, "collect", lambda: collected.append("large models are freed"))
    monkeypatch.setattr(module, "LARGE", 10)
    again = zoo.verify("retrained")
    assert replace(again, created=before.created) == before
    assert len(collected) == 3 + 3


def test_without_retrained_models_the_membership_check_decides_and_it_is_said(judged):
    outcome = judged("retrained", oracles=False)
    assert outcome.oracle == "none"
    assert not outcome.check("among_retrained").ran
    assert outcome.verdict.status == "not_detected"
    assert any("--oracles 0" in sentence for sentence in outcome.verdict.sentences)
    assert any("retrained" in line for line in certificate_of(outcome, results_sha256="0").not_claimed)
    assert outcome.check("extraction").word == ""


def test_few_rows_leave_it_to_the_retrained_models(judged):
    outcome = judged("retrained", {"least": 61})
    assert outcome.check("membership").word == TOO_FEW
    assert "only 60 forget rows judge and 61 are needed" in outcome.check("membership").sentence
    assert outcome.check("among_retrained").word == AMONG_RETRAINED
    assert outcome.verdict.status == "not_detected"
    assert judged("retrained", {"least": 61}, oracles=False).verdict.status == "too_few"
    shown = judged("untouched", {"least": 61}, oracles=False)
    assert shown.verdict.status == "still_known"


def test_one_person_is_one_unit(zoo, judged):
    owners = {
        "forget": [replace(record, user="alice") for record in zoo.rows.forget],
        "unseen": [replace(record, user=f"u{number}") for number, record in enumerate(zoo.rows.unseen)],
    }
    outcome = judged("untouched", **owners)
    membership = outcome.check("membership")
    assert membership.word == TOO_FEW
    assert all((number.estimate.lo, number.estimate.hi) == (0, 1) for number in membership.measured)
    assert outcome.check("among_retrained").word == STILL_KNOWN
    assert outcome.verdict.status == "still_known"
    forgotten = judged("retrained", **owners)
    assert forgotten.verdict.status == "not_detected"
    assert "alice" not in render_unlearning(forgotten)


def test_people_and_requests_are_judged_one_by_one(zoo, judged):
    owned = [replace(record, user=f"p{number % 2}") for number, record in enumerate(zoo.rows.forget)]
    requests = {"first": ["f0", "f2"], "second": ["f1"]}
    outcome = judged("untouched", forget=owned, requests=requests)
    tables = {table.name: table for table in outcome.check("among_retrained").section.tables}
    assert {row[0] for row in tables["unlearning-among-people"].rows} == {"person 1", "person 2"}
    assert {row[0] for row in tables["unlearning-among-requests"].rows} == {"first", "second"}
    assert "Of 2 people" in outcome.check("among_retrained").sentence


def test_a_model_that_never_knew_is_no_proof_of_forgetting(readings):
    reading = readings("retrained")
    renamed = {
        check: {name: of_model.get("retrained 1") if name == "untouched" else entry for name, entry in of_model.items()}
        for check, of_model in reading.evidence.items()
    }
    for models in (reading.models, tuple(model for model in reading.models if model.role != RETRAINED)):
        outcome = judge(replace(reading, evidence=renamed, models=models), VerifyConfig(margin=0.19))
        assert outcome.verdict.status == "never_known"
    assert "not shown to know" in outcome.verdict.headline


def test_what_cannot_be_verified_is_refused(zoo, tmp_path):
    with pytest.raises(BadInput, match="has the weights of the retrained 1 one"):
        zoo.verify("retrained", retrained=[zoo.folders["oracle 0"]] * 2)
    with pytest.raises(BadInput, match="has the weights of the unlearned one"):
        zoo.verify("retrained", retrained=[zoo.folders["retrained"]])
    with pytest.raises(BadInput, match="are none"):
        zoo.case("retrained", unseen=())
    with pytest.raises(BadInput, match="among the forget rows and the unseen rows"):
        zoo.case("retrained", unseen=zoo.rows.forget[:1])
    with pytest.raises(BadInput, match="no forget row"):
        zoo.case("retrained", requests={"first": ["u0"]})
    with pytest.raises(BadInput, match="have no token to predict"):
        zoo.verify("retrained", forget=[Record(id="f", text="")])
    with pytest.raises(BadInput, match="needs more than the tables"):
        zoo.verify("retrained", {"attacks": "rmia"})
    other = shutil.copytree(zoo.folders["oracle 0"], tmp_path / "other")
    changed = json.loads((other / "tokenizer.json").read_text())
    vocabulary = changed["model"]["vocab"]
    vocabulary["0"], vocabulary["1"] = vocabulary["1"], vocabulary["0"]
    (other / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(BadInput, match=r"reads record .* in other tokens"):
        zoo.verify("retrained", retrained=[str(other)])


@pytest.mark.parametrize(
    "settings", [{"margin": 0.25}, {"margin": 0}, {"confidence": 1.0}, {"relearn_steps": (5, 1)}, {"samples": -1}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(BadInput):
        VerifyConfig(**settings)
