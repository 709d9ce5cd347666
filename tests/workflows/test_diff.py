# SPDX-License-Identifier: Apache-2.0
"""Two audits of the same coins: small changes are seen, none is invented, and other coins are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from reticent.auditing.membership.collect import MembershipEvidence, write_scores
from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.run_folder import RunFolder
from reticent.report.difference_page import print_difference, render_difference, write_difference
from reticent.report.results_file import read_results, write_results
from reticent.testing.simulated_audits import SimulatedAudit, SimulatedSecrets, audited, membership_of, scores
from reticent.workflows.diff import diff
from reticent.workflows.gate import gate


def runs(tmp_path, shifts, *, n=400, seed=0, unit="record", likeness=0.0, noise=0.3, moved=None, judged=None):
    """A run folder for each shift: the same records and coins, scores that are like each other.

    ``judged`` is a results file that all have; None makes one for each by its own shift.
    """
    rng = np.random.default_rng(seed)
    member = rng.permutation(n) < n // 2
    user = np.array([f"u{i // 8}" for i in range(n)], dtype=object) if unit == "user" else None
    inside = None
    if user is not None:
        inside = np.repeat(rng.random(n // 8) < 0.5, 8)
        member = member & inside
    common = scores(SimulatedAudit(member=member, unit=unit, shift=np.zeros(n), user=user, likeness=likeness), rng)
    folders = []
    for place, shift in enumerate(shifts):
        simulated = SimulatedAudit(
            member=member, unit=unit, shift=shift * member, user=user, user_member=inside, likeness=likeness,
            secrets=SimulatedSecrets(tiers=(1, 4), each=20),
        )  # fmt: skip
        attack_scores = {
            name: score + noise * rng.normal(size=n) + simulated.strength[name] * simulated.shift
            for name, score in common.items()
        }
        run = RunFolder(root=tmp_path / f"run{place}")
        run.root.mkdir()
        membership = membership_of(simulated)
        if moved and place == moved:
            membership = replace(membership, member=~membership.member)
        evidence = MembershipEvidence(membership=membership, scores=attack_scores, notes={}, dropped=0)
        write_scores(run.scores, evidence)
        if judged is None:
            write_results(run.results, audited(simulated, np.random.default_rng(7)))
        else:
            shutil.copy(judged, run.results)
        folders.append(run.root)
    return folders


def test_a_change_is_seen_that_separate_intervals_would_cover(tmp_path):
    before, after = runs(tmp_path, (0.4, 0.75))
    difference = diff(before, after)
    change = next(change for change in difference.changes if (change.attack, change.metric) == ("wbc", "auc"))
    assert change.direction == "more"
    assert change.before.hi > change.after.lo
    assert change.change.value == pytest.approx(change.after.value - change.before.value)
    assert difference.headline == "The second model leaks more than the first."
    assert diff(after, before).headline == "The second model leaks less than the first."


def test_attacks_that_were_run_with_other_parameters_are_not_compared(tmp_path):
    before, after = runs(tmp_path, (0.4, 0.75))
    results = read_results(after / "results.json")
    other = tuple(replace(run, params={"k": 0.5}) if run.name == "min_k" else run for run in results.attacks)
    write_results(after / "results.json", replace(results, attacks=other))
    difference = diff(before, after)
    assert "min_k" not in {change.attack for change in difference.changes}
    assert "wbc" in {change.attack for change in difference.changes}
    assert any(line.startswith("min_k: the audits ran it with other parameters") for line in difference.left_out)


def test_nothing_that_changed_is_nothing_found(tmp_path):
    """30 pairs without a change at 5 %: above 6 has a chance of 0.3 %."""
    alarms = 0
    (first,) = runs(tmp_path, (0.5,), n=160)  # only scores are compared, so one list of attacks does for all
    for seed in range(30):
        folder = tmp_path / str(seed)
        folder.mkdir()
        pair = runs(folder, (0.5, 0.5), n=160, seed=seed, judged=first / "results.json")
        alarms += diff(*pair).headline.startswith("The second")
    assert alarms <= 6


def test_an_audit_is_no_different_from_itself(tmp_path):
    (run,) = runs(tmp_path, (0.5,))
    difference = diff(run, run)
    assert all(change.change.value == 0 and change.direction == "same" for change in difference.changes)
    assert "No difference" in difference.headline


def test_users_are_compared_too(tmp_path):
    before, after = runs(tmp_path, (0.0, 1.0), n=640, unit="user", likeness=0.3)
    difference = diff(before, after)
    assert {change.level for change in difference.changes} == {"record", "user", "canary"}
    assert any(change.attack == "user_inference" for change in difference.changes)
    assert any(change.attack == "wbc:mean" for change in difference.changes)


def test_other_coins_and_other_data_are_refused(tmp_path):
    before, after = runs(tmp_path, (0.0, 0.0), moved=1)
    with pytest.raises(BadInput, match="trained on by one model and not by the other"):
        diff(before, after)
    with pytest.raises(BadInput):
        diff(before, tmp_path / "nowhere")


def test_the_gate_fails_only_where_more_leaks_for_certain(tmp_path):
    low, same, high = runs(tmp_path, (0.4, 0.4, 1.0))
    results = audited(
        SimulatedAudit(member=np.arange(60) < 30, unit="record", shift=np.zeros(60)), np.random.default_rng(0)
    )
    assert gate(results, baseline=diff(low, same)).exit_code == 0
    failed = gate(results, baseline=diff(low, high))
    assert failed.exit_code == 1
    assert "changed by" in failed.checks[0].reason
    assert gate(results, baseline=diff(high, low)).exit_code == 0
    assert main(["gate", str(high), "--baseline", str(low)]) == 1
    assert main(["gate", str(low), "--baseline", str(high)]) == 0
    assert main(["gate", str(low), "--baseline", str(tmp_path / "nowhere")]) == 2


def test_nothing_of_yours_is_written_over(tmp_path):
    before, after = runs(tmp_path, (0.4, 1.0))
    for name in ("diff.html", "diff.json"):
        place = tmp_path / name.replace(".", "-")
        place.mkdir()
        (place / name).write_text("mine")
        assert main(["diff", str(before), str(after), "--out", str(place)]) == 2
        assert [path.read_text() for path in place.iterdir()] == ["mine"]
    (tmp_path / "file").write_text("mine")
    assert main(["diff", str(before), str(after), "--out", str(tmp_path / "file")]) == 2
    assert main(["diff", str(before), str(after), "--out", ""]) == 2
    for _ in range(2):  # its own is replaced
        assert main(["diff", str(before), str(after), "--out", str(tmp_path / "own")]) == 0


@pytest.mark.parametrize("flags", [["--confidence", "2"], ["--confidence", "nan"], ["--seed", "-1"]])
def test_numbers_that_are_none_are_refused(tmp_path, flags):
    before, after = runs(tmp_path, (0.4, 1.0))
    assert main(["diff", str(before), str(after), *flags]) == 2


def test_the_page_and_the_file_say_what_the_console_says(tmp_path, capsys):
    before, after = runs(tmp_path, (0.4, 1.0))
    difference = diff(before, after)
    page = write_difference(tmp_path / "out", difference)
    assert page.read_text() == render_difference(difference)
    text = page.read_text()
    assert difference.headline in text
    assert "<script" not in text
    content = json.loads((tmp_path / "out" / "diff.json").read_text())
    assert content["format"] == "reticent.difference"
    assert len(content["changes"]) == len(difference.changes)
    print_difference(difference)
    assert main(["diff", str(before), str(after), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "diff.html").read_text() == text
