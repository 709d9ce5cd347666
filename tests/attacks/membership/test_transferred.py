# SPDX-License-Identifier: Apache-2.0
"""The transferred attack: a planted signal transfers to an unseen model, none is found where there is none, and no
model stands on both sides."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from reticent.attacks import learn_transferred
from reticent.attacks.attack import ATTACKS
from reticent.attacks.membership.learn_transferred import KnownFineTune, learn, read_fine_tune
from reticent.attacks.membership.learned import record_features, token_features
from reticent.attacks.membership.transferred import FEATURES, features_of, read_coefficients, refuse_seen
from reticent.core.errors import BadInput, Underpowered
from reticent.core.manifest import write_manifest
from reticent.core.membership import Membership
from reticent.core.run_folder import RunFolder
from reticent.stats.roc import auc
from reticent.testing.conformance import check_attack
from reticent.testing.planted import plant

TRANSFERRED = ATTACKS.get("transferred")


def planted(seed, *, gain=0.35, records=160):
    return plant(TRANSFERRED, records=records, seed=seed, gain=gain)


def fine_tune(seed, *, base="b0", data=None, model=None, **options):
    signal = planted(seed, **options)
    tables = {name: table.trained() for name, table in signal.tables.items()}
    about = {"name": f"run{seed}", "model": model or f"m{seed}", "base": base, "data": data or f"d{seed}"}
    return KnownFineTune.of(tables["table"], tables["ref"], signal.member, about)


def judged(coefficients, seed, tmp_path, **options):
    path = tmp_path / "coefficients.json"
    coefficients.write(path)
    signal = planted(seed, records=400, **options)
    scores = TRANSFERRED.with_params(coefficients=str(path)).score(
        {name: table.trained() for name, table in signal.tables.items()}
    )
    return auc(scores[signal.member], scores[~signal.member])


def audited(folder, seed, *, model, data="d", base="b", member=None, **options):
    """A run folder as an audit leaves it."""
    signal = planted(seed, **options)
    run = RunFolder(root=folder)
    run.tables.mkdir(parents=True)
    for name, side in (("table", "target"), ("ref", "reference")):
        signal.tables[name].write(run.tables / f"evaluate.{side}.parquet")
    count = len(signal.member)
    Membership(
        record_id=signal.tables["table"].record_id,
        member=signal.member,
        user=np.full(count, None, dtype=object),
        user_member=signal.member,
        role=np.full(count, "evaluate", dtype=object),
        unit="record",
    ).write(run.scores)
    settings = {"target": "t", "reference": "r", "data": data, "max_tokens": 64, "audit": {}}
    (folder / "audit.yaml").write_text(json.dumps(settings), encoding="utf-8")
    write_manifest(run.manifest, audit={"target_fingerprint": model, "reference_fingerprint": base})
    return folder


# ---- power and null -------------------------------------------------------------------------------------------------


def test_a_planted_signal_transfers_to_an_unseen_model(tmp_path):
    found = learn([fine_tune(seed, gain=0.1 + 0.1 * seed) for seed in range(3)])
    assert judged(found, 77, tmp_path, gain=0.3).lo > 0.7


def test_nothing_is_found_on_a_model_that_learned_nothing(tmp_path):
    found = learn([fine_tune(seed) for seed in range(3)])
    estimate = judged(found, 78, tmp_path, gain=0.0)
    assert estimate.lo < 0.5 < estimate.hi


def test_coefficients_of_fine_tunes_that_leak_nothing_find_nothing_on_others_like_them():
    found = learn([fine_tune(seed, base=f"b{seed}", gain=0.0, records=300) for seed in range(4)])
    assert all(abs(row.auc - 0.5) < 0.12 for row in found.fine_tunes)


# ---- what is learned ------------------------------------------------------------------------------------------------


def test_features_are_means_of_tokens_and_ratios_of_records():
    signal = planted(5, records=9)
    table, ref = (signal.tables[name].trained() for name in ("table", "ref"))
    found = features_of(table, ref)
    assert found.shape == (9, len(set(FEATURES)))
    for row in range(9):
        one, other = table.take(np.array([row])), ref.take(np.array([row]))
        slow = [float(np.mean(column)) for column in token_features(one, other).T]
        np.testing.assert_allclose(found[row], [*slow, *record_features(one, other)[0]], rtol=1e-9)


def test_the_shift_and_size_of_a_fine_tune_teach_nothing():
    first, second = fine_tune(1), fine_tune(2)
    moved = replace(second, features=second.features + 7.0)
    np.testing.assert_allclose(learn([first, second]).weights, learn([first, moved]).weights, atol=1e-6)
    twice = replace(second, features=np.tile(second.features, (2, 1)), member=np.tile(second.member, 2))
    plain, doubled = (np.array(learn([first, row]).weights) for row in (second, twice))
    assert np.corrcoef(plain, doubled)[0, 1] > 0.99


def test_one_balanced_fine_tune_gives_the_textbook_regression():
    row = fine_tune(3)
    centred = row.features - row.features.mean(axis=0)
    scale = centred.std(axis=0)
    slow = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(centred / scale, row.member)
    np.testing.assert_allclose(learn([row]).weights, slow.coef_[0] / scale, rtol=1e-3, atol=1e-4)


# ---- never on both sides --------------------------------------------------------------------------------------------


def test_a_fine_tune_is_judged_only_by_others_without_its_base_or_data():
    rows = [fine_tune(0), fine_tune(1), fine_tune(2, base="b1"), fine_tune(3, base="b2", data="d0")]
    found = {row.name: row for row in learn(rows).fine_tunes}
    assert {name: row.learned_on for name, row in found.items()} == {"run0": 1, "run1": 2, "run2": 3, "run3": 2}
    alone = learn([fine_tune(0), fine_tune(1)]).fine_tunes
    assert [(row.auc, row.learned_on) for row in alone] == [(None, 0), (None, 0)]
    # what the file says of run0 is what run2, the only one without its base and data, teaches
    signal = rows[0]
    scores = signal.features @ np.array(learn([rows[2]]).weights)
    assert found["run0"].auc == pytest.approx(auc(scores[signal.member], scores[~signal.member]).value, abs=1e-4)


def test_the_same_model_is_refused_on_both_sides():
    with pytest.raises(BadInput, match="run0, run1: are audits of the same model"):
        learn([fine_tune(0, model="m"), fine_tune(1, model="m")])


@pytest.mark.parametrize(("model", "data", "word"), [("m0", "x", "model"), ("x", "d1", "data")])
def test_a_model_or_records_that_were_learned_on_are_not_attacked(tmp_path, model, data, word):
    path = tmp_path / "c.json"
    learn([fine_tune(0), fine_tune(1)]).write(path)
    attacks = [ATTACKS.get("loss"), TRANSFERRED, TRANSFERRED.with_params(coefficients=str(path))]
    refuse_seen(attacks, model="x", data="y")
    with pytest.raises(BadInput, match=f"learned on this very {word}"):
        refuse_seen(attacks, model=model, data=data)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_coefficients_from_run_folders_pass_all_checks_of_an_attack(tmp_path):
    runs = [audited(tmp_path / f"r{i}", i, model=f"m{i}", data=f"d{i}", base=f"b{i}") for i in range(3)]
    found = learn_transferred(runs, tmp_path / "learned.json")
    assert read_coefficients(tmp_path / "learned.json") == found
    assert all(row.auc > 0.8 and row.learned_on == 2 for row in found.fine_tunes)
    direct = [fine_tune(i, base=f"b{i}") for i in range(3)]
    np.testing.assert_allclose(found.weights, learn(direct).weights, atol=1e-6)
    check_attack(TRANSFERRED.with_params(coefficients=str(tmp_path / "learned.json")))


def test_refused_input(tmp_path):
    with pytest.raises(BadInput, match="no audit with a reference"):
        read_fine_tune(tmp_path)
    audited(tmp_path / "a", 0, model="m", records=12)
    with pytest.raises(Underpowered, match="too few to learn from"):
        learn_transferred([tmp_path / "a"], tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()
    with pytest.raises(BadInput, match="has no coefficients"):
        TRANSFERRED.score({name: table.trained() for name, table in planted(0).tables.items()})
    with pytest.raises(BadInput, match="must be a file of coefficients or none"):
        TRANSFERRED.with_params(coefficients=str(tmp_path / "nothing.json"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda body: body | {"format": "other"}, "another version"),
        (lambda body: body | {"weights": {"loss": 1.0}}, "another version"),
        (lambda body: body | {"weights": dict.fromkeys(FEATURES, "x")}, "no coefficients"),
        (lambda body: body | {"weights": dict.fromkeys(FEATURES, float("nan"))}, "finite"),
        (lambda body: body | {"fine_tunes": [{}]}, "no coefficients"),
        (lambda body: [], "no coefficients"),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage, why):
    path = tmp_path / "c.json"
    learn([fine_tune(0)]).write(path)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))), encoding="utf-8")
    with pytest.raises(BadInput, match=why):
        read_coefficients(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="JSON"):
        read_coefficients(path)
