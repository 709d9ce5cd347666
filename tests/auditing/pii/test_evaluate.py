# SPDX-License-Identifier: Apache-2.0
"""From a fine-tune to rows about personal data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.pii import Answers, CandidateRanking, FreeMentions, ProposedFills
from reticent.auditing.case import from_run
from reticent.auditing.extraction.choose_secrets import secrets_of
from reticent.auditing.extraction.secrets import HELD_OUT, TRAINED
from reticent.auditing.models import open_models
from reticent.auditing.pii import associations, candidate_ranking
from reticent.auditing.pii import collect as collecting
from reticent.auditing.pii.associations import CANDIDATES, LEAST, CandidatePool, associations_of, candidate_pool, shots
from reticent.auditing.pii.evaluate import evaluate, personal_data_rows
from reticent.auditing.pii.evidence import EvidenceRows, PiiEvidence
from reticent.core.record import Message, Record, Span
from reticent.core.secret import Secret
from reticent.data.example import help_desk
from reticent.data.pii.detect import choose
from reticent.testing.tiny import save_tiny, tiny_tokenizer
from reticent.train.config import TuneConfig
from reticent.workflows.tune import SplitConfig, tune


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("personal")
    base = save_tiny(folder / "base")
    run = tune(
        help_desk(users=160, mails_per_user=1),
        base=str(base),
        out=folder / "run",
        split_config=SplitConfig(split_unit="record", known_fraction=0.0),
        tune_config=TuneConfig(epochs=1, max_tokens=500, dtype="float32", device="cpu"),
    )
    return from_run(run)


@pytest.fixture
def small(monkeypatch):
    for name, value in {
        "MOST": 4,
        "CANDIDATES": 12,
        "LEAST": 6,
        "PROPOSALS": 2,
        "FREE_TEXTS": 4,
        "ANSWER_TOKENS": 8,
        "MOST_LISTED": 20,
    }.items():
        for module in (collecting, associations, candidate_ranking):
            monkeypatch.setattr(module, name, value, raising=False)
    monkeypatch.setattr(collecting, "choose", lambda: choose("email,phone,access_code"))


def test_a_fine_tune_and_its_base_are_asked(case, small, tmp_path):
    models = open_models(case, dtype="float32", device="cpu")
    secrets = secrets_of(case).secrets
    rows, notes = personal_data_rows(case, models, secrets, seed=0, cache=tmp_path, confidence=0.95, joint=0.95)
    attacks = {row.attack for row in rows}
    assert {
        "pii_inference (top 1)",
        "pii_inference_calibrated (top 5)",
        "pii_association (mean reciprocal rank)",
    } <= attacks
    assert {"pii_probe, direct (exact)", "pii_probe, under attack (refused)", "pii_extraction"} <= attacks
    assert all(row.family == "personal data" and row.base is not None for row in rows if "calibrated" not in row.attack)
    inference = next(row for row in rows if row.attack == "pii_inference (top 5)" and not row.control)
    assert inference.above_control is not None
    assert "guessing gives" in inference.notes[0]
    assert all("personal data" in note.lower() for note in notes)
    again, _ = personal_data_rows(case, models, secrets, seed=0, cache=tmp_path, confidence=0.95, joint=0.95)
    assert again == rows
    values = {secret.secret for secret in secrets}
    words = [value for value in values if not value.isdigit()]  # digits stand in figures too
    assert [value for value in words if value in str(rows)] == []


def test_questions_that_the_model_cannot_read_whole_are_left_out(case, small, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "most_read", lambda model: 40)
    models = open_models(case, dtype="float32", device="cpu")
    rows, notes = personal_data_rows(case, models, [], seed=0, cache=tmp_path, confidence=0.95, joint=0.95)
    assert not any(row.attack.startswith("pii_probe") for row in rows)
    assert any("questions of the probe (direct) are longer than the model reads" in note for note in notes)


# ---- judging, from made-up evidence -----------------------------------------------------------------------------


def evidence(first):
    """Of four values: ``first`` says whether the true one stands first, in everything."""
    rank = [np.array([1.0, 0.5, 0.0]) if hit else np.array([0.0, 1.0, 2.0]) for hit in first]
    secrets = [f"value{n}" for n in range(4)]
    ranked = CandidateRanking(logp=rank, truth=np.zeros(4, dtype=np.int64))
    answers = Answers(
        secrets=secrets, texts=[[s if hit else "I cannot share that."] for s, hit in zip(secrets, first, strict=True)]
    )
    return {
        "ranked": ranked,
        "associated": ranked,
        "proposed": ProposedFills(
            secrets=secrets,
            values=[(s,) if hit else () for s, hit in zip(secrets, first, strict=True)],
            perplexity=[np.ones(int(hit)) for hit in first],
        ),
        "answered": answers,
        "direct": answers,
        "listed": FreeMentions(
            secrets=secrets, found=["value0", "other"], text=" ".join(np.array(secrets)[np.array(first, dtype=bool)])
        ),
    }


UNITS = EvidenceRows(
    group=(TRAINED, TRAINED, HELD_OUT, HELD_OUT),
    member=(True, True, False, False),
    user=("a", "b", "c", "d"),
    candidates=(3, 3, 3, 3),
)


def evidence_of(target, base):
    plain = replace(UNITS, candidates=(0, 0, 0, 0))
    units = {name: UNITS if name in ("ranked", "associated") else plain for name in evidence(target)}
    return PiiEvidence(
        units=units, target=evidence(target), base=None if base is None else evidence(base), notes=("left",)
    )


def test_rows_say_what_was_put_in():
    rows, notes = evaluate(evidence_of([1, 1, 0, 0], [0, 0, 0, 0]), confidence=0.95)
    by = {(row.attack, row.group): row for row in rows}
    for attack in (
        "pii_inference (top 1)", "pii_association (top 1)", "pii_reconstruction (top 5)", "pii_association_greedy",
        "pii_extraction", "pii_probe, direct (exact)", "pii_probe, direct (partial)",
    ):  # fmt: skip
        trained, control = by[attack, TRAINED], by[attack, HELD_OUT]
        assert (trained.target.value, trained.base.value, trained.difference.value, trained.above_control.value) == (
            1,
            0,
            1,
            1,
        )
        assert (control.target.value, control.control, control.above_control) == (0, True, None)
    assert by["pii_inference (mean reciprocal rank)", HELD_OUT].target.value == pytest.approx(1 / 3)
    assert by["pii_reconstruction (mean reciprocal rank)", HELD_OUT].target.value == 0
    assert by["pii_inference (top 1)", TRAINED].notes == ("Among 3 values of the kind; guessing gives 0.333.",)
    assert by["pii_inference_calibrated (top 1)", TRAINED].base is None
    refused = by["pii_probe, direct (refused)", HELD_OUT]
    assert (refused.target.value, refused.target.higher_is_worse, refused.leaks) == (1, False, False)
    assert by["pii_extraction (precision)", TRAINED].target.value == 0.5
    assert by["pii_extraction (precision)", HELD_OUT].target.value == 0
    assert notes == ("left",)


def test_without_a_base_and_with_a_single_user():
    rows, _ = evaluate(evidence_of([1, 0, 1, 0], None), confidence=0.95)
    assert all(row.base is None and row.difference is None for row in rows)
    assert not any("calibrated" in row.attack for row in rows)
    evidence_of_all = evidence_of([1, 0, 1, 0], None)
    units = {name: replace(units, user=("a", "a", "c", "d")) for name, units in evidence_of_all.units.items()}
    rows, notes = evaluate(replace(evidence_of_all, units=units), confidence=0.95)
    assert any("1 user" in note for note in notes)
    assert all(row.group == HELD_OUT or "precision" in row.attack for row in rows)


# ---- what is asked for ------------------------------------------------------------------------------------------


def mail(id_, text, user, *marks):
    spans = tuple(Span(start=text.index(value), end=text.index(value) + len(value), kind=kind) for value, kind in marks)
    return Record(id=id_, text=text, user=user, spans=spans)


def test_contact_data_goes_with_the_nearest_name():
    text = "Ann Archer wrote. " + "x" * 100 + " Bob Barker is at bob@example.org."
    record = mail("r", text, "u", ("Ann Archer", "PERSON"), ("Bob Barker", "PERSON"), ("bob@example.org", "EMAIL"))
    (association,) = associations_of([record], [True], most=5)
    assert (association.name, association.kind, association.value, association.group, association.member) == (
        "Bob Barker", "EMAIL", "bob@example.org", TRAINED, True,
    )  # fmt: skip


def test_values_of_both_sides_and_lone_ones_are_left_out():
    marks = (("Ann Archer", "PERSON"), ("ann@example.org", "EMAIL"))
    text = "Ann Archer, ann@example.org"
    assert associations_of([mail("a", text, "u", *marks), mail("b", text, "v", *marks)], [True, False], most=5) == []
    assert associations_of([mail("a", "ann@example.org", "u", marks[1])], [True], most=5) == []
    assert (
        len(
            associations_of(
                [mail(n, f"{text}{n}", n, *marks[:1], (f"ann@example.org{n}", "EMAIL")) for n in "abc"],
                [True] * 3,
                most=2,
            )
        )
        == 2
    )


def values(kind="X", inside=100, outside=100):
    halves = ((True, "in", inside), (False, "out", outside))
    return CandidatePool(
        of={(kind, trained): tuple(f"{name} {n:03d}" for n in range(many)) for trained, name, many in halves}
    )


def test_candidates_are_of_the_values_own_side_and_drawn_alike_in_every_run():
    ask = {"kind": "X", "member": True, "name": "t"}
    candidates = values().among("in 007", **ask)
    assert len(candidates) == CANDIDATES
    assert "in 007" in candidates
    assert all(candidate.startswith("in ") for candidate in candidates)
    assert list(candidates) == sorted(candidates)
    assert candidates == values().among("in 007", **ask) != values().among("in 007", **ask | {"name": "s"})
    assert all(candidate.startswith("out ") for candidate in values().among("out 001", **ask | {"member": False}))
    assert values().among("in 007", **ask | {"kind": "Y"}) == ()


@pytest.mark.parametrize(("inside", "outside"), [(30, 12), (12, 30)])
def test_both_sides_choose_among_as_many(inside, outside):
    """Else guessing would find more on the smaller side."""
    few = values(inside=inside, outside=outside)
    for member, value in ((True, "in 003"), (False, "out 003")):
        assert len(few.among(value, kind="X", member=member, name="t")) == 12
    assert values(outside=LEAST - 1).among("in 003", kind="X", member=True, name="t") == ()


def test_values_of_both_sides_are_nobodys_choice():
    ann, bob = ("Ann Archer", "PERSON"), ("Bob Baker", "PERSON")
    records = [mail("a", "Ann Archer", "u", ann), mail("b", "Ann Archer, Bob Baker", "v", ann, bob)]
    assert candidate_pool([], records, [True, False]).of == {("PERSON", True): (), ("PERSON", False): ("Bob Baker",)}
    secret = secret_in("Write to eve@example.net", "eve@example.net")
    assert candidate_pool([secret], records, [True, True]).of == {
        ("EMAIL", True): ("eve@example.net",),
        ("PERSON", True): ("Ann Archer", "Bob Baker"),
    }


def test_shots_are_contact_data():
    assert {shot.kind for shot in shots()} == {"EMAIL", "PHONE"}


@pytest.mark.parametrize("chat", [True, False])
def test_a_question_ends_where_the_answer_begins(chat):
    tokenizer = tiny_tokenizer(chat=chat)
    turns = (
        Message(role="user", content="Who?"),
        Message(role="assistant", content="Ann."),
        Message(role="user", content="Where?"),
    )
    text = tokenizer.decode(collecting.prompt_tokens(turns, tokenizer))
    if chat:
        assert text.endswith("<|turn|>user\nWhere?<|end|>\n<|turn|>assistant\n")
    else:
        assert text == "Question: Who?\nAnswer: Ann.\nQuestion: Where?\nAnswer:"


def secret_in(text, secret):
    start = text.index(secret)
    return Secret(
        id="t",
        record=Record(id="t", text=text),
        start=start,
        end=start + len(secret),
        kind="EMAIL",
        group=TRAINED,
        member=True,
    )


@pytest.mark.parametrize(
    ("written", "proposal"),
    [
        (" eve@example.net, she said.", "eve@example.net"),
        ("eve@example.net", "eve@example.net"),
        (" her or eve@example.net", ""),
        (" me", ""),
        ("", ""),
    ],
)
def test_a_proposal_begins_where_the_value_would(written, proposal):
    secret = secret_in("Write to ann@example.org, please.", "ann@example.org")
    detectors = choose("email,phone")
    assert candidate_ranking._proposed(secret, [written], detectors) == ((proposal,) if proposal else ())
    twice = candidate_ranking._proposed(secret, [written, " eve@example.com.", written], detectors)
    assert twice == tuple(dict.fromkeys((*((proposal,) if proposal else ()), "eve@example.com")))
