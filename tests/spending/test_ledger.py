# SPDX-License-Identifier: Apache-2.0
"""Which trainings share data, and what they cost together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.privacy import accounting
from reticent.privacy.composition import Part, total
from reticent.privacy.guarantee import covered_spans
from reticent.privacy.mechanism import Mechanism
from reticent.spending.ledger import LedgerGroup, ledger
from reticent.train.begun import StartedTraining, begin
from reticent.train.private.step_log import StepLog as Checkpoint


def mails(start: int = 0, users: int = 12, each: int = 3) -> list[Record]:
    return [
        Record(id=f"u{user}m{mail}", text=f"Kennwort {user} {mail}", user=f"mieter {user}")
        for user in range(start, start + users)
        for mail in range(each)
    ]


def nameless(start: int = 0, count: int = 30) -> list[Record]:
    return [Record(id=str(i), text=f"Kennwort {i}") for i in range(start, start + count)]


def only_group(*folders: Path) -> LedgerGroup:
    (group,) = ledger(folders).groups
    return group


def cost(delta: float, *parts: tuple[float, int] | tuple[float, int, int]) -> float:
    """Of (noise, steps[, owned]) at rate 1/8, without any run folder."""
    made = []
    for noise, steps, *owned in parts:
        mechanism = Mechanism(noise_multiplier=noise, rate=0.125, owned=owned[0] if owned else 1)
        made.append(Part(mechanism=mechanism, steps=steps))
    return total(tuple(made), delta=delta).epsilon


def test_two_runs_on_the_same_data_add_up(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(), promise(noise=2.0, steps=40))
    make_run(tmp_path / "b", mails(), promise(noise=3.0, steps=80, delta=1e-4))
    group = only_group(tmp_path)
    (together,) = group.totals
    assert [one.name for one in group.counted] == ["a", "b"]
    assert (together.unit, together.relation, together.delta) == ("user", "add or remove one user", 1e-4)
    assert together.epsilon == cost(1e-4, (2.0, 40), (3.0, 80))
    assert together.sum_epsilon == sum(one.promise.epsilon for one in group.counted if one.promise)
    assert together.sum_delta == pytest.approx(1.1e-3)
    assert (together.trainings, together.of_one_unit, together.not_counted) == (2, 2, 0)
    said = together.sentence()
    assert "per user at δ = 0.0001 (add or remove one user" in said
    assert "at least" not in said


def test_one_training_costs_what_it_promised(tmp_path: Path, promise: Any, make_run: Any) -> None:
    made = promise(noise=2.0, steps=40)
    make_run(tmp_path / "a", mails(), made)
    (together,) = only_group(tmp_path).totals
    assert together.epsilon == pytest.approx(made.epsilon, abs=1e-9)


def test_a_run_whose_weights_are_gone_is_counted_by_its_manifest(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(), promise(), weights=False)
    make_run(tmp_path / "b", mails(), promise())
    assert only_group(tmp_path).totals[0].trainings == 2


def test_a_folder_given_twice_is_counted_once(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(), promise())
    (tmp_path / "link").symlink_to(tmp_path / "a")
    group = only_group(tmp_path, tmp_path, tmp_path / "a")
    assert group.totals[0].trainings == 1


def test_runs_on_other_people_are_other_groups(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(0), promise(noise=2.0))
    make_run(tmp_path / "b", mails(12), promise(noise=4.0))
    groups = ledger([tmp_path]).groups
    assert [[one.name for one in group.counted] for group in groups] == [["a"], ["b"]]
    assert groups[0].totals[0].epsilon > groups[1].totals[0].epsilon


def test_the_total_is_that_of_the_person_in_most(tmp_path: Path, promise: Any, make_run: Any) -> None:
    """c overlaps with a and with b, which have nobody in common: nobody pays for all three."""
    make_run(tmp_path / "a", mails(0), promise(noise=2.0))
    make_run(tmp_path / "b", mails(12), promise(noise=4.0))
    make_run(tmp_path / "c", mails(0, users=24), promise(noise=3.0))
    (together,) = only_group(tmp_path).totals
    assert (together.trainings, together.of_one_unit) == (3, 2)
    assert together.epsilon == cost(1e-3, (2.0, 40), (3.0, 40))
    assert together.epsilon < cost(1e-3, (2.0, 40), (3.0, 40), (4.0, 40))
    assert together.sum_delta == pytest.approx(2e-3)
    assert "at most 2 of them on any one user" in together.sentence()


def test_of_very_many_ways_to_share_all_trainings_count_as_on_one_person(
    tmp_path: Path, promise: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reticent.spending.ledger.MOST_SETS", 1)
    for name, start in (("a", 0), ("b", 12), ("c", 6)):
        make_run(tmp_path / name, mails(start), promise())
    (together,) = only_group(tmp_path).totals
    assert together.of_one_unit == 3


def test_a_shared_user_joins_runs_that_share_no_text(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(), promise())
    other = [replace(record, text=f"anders {record.id}") for record in mails()]
    make_run(tmp_path / "b", other, promise())
    assert only_group(tmp_path).totals[0].of_one_unit == 2


def test_a_person_under_another_name_is_known_by_their_texts(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(), promise())
    make_run(tmp_path / "b", [replace(one, user=f"hash {one.user}") for one in mails()], promise())
    (together,) = only_group(tmp_path).totals
    assert together.of_one_unit == 2
    assert together.epsilon == cost(1e-3, (2.0, 80))


def test_records_are_known_by_their_text_not_by_their_number(tmp_path: Path, promise: Any, make_run: Any) -> None:
    """Ids that count rows say nothing across data sets."""
    make_run(tmp_path / "a", nameless(0), promise("record"))
    make_run(tmp_path / "b", [replace(one, text=f"anders {one.id}") for one in nameless(0)], promise("record"))
    make_run(tmp_path / "c", [replace(one, id=f"new{one.id}") for one in nameless(0)], promise("record"))
    groups = ledger([tmp_path]).groups
    assert [[one.name for one in group.counted] for group in groups] == [["a", "c"], ["b"]]
    assert [one.unit for one in groups[0].totals] == ["record"]
    assert groups[0].totals[0].epsilon == cost(1e-3, (2.0, 80))


def test_promises_per_record_are_also_told_per_user(tmp_path: Path, promise: Any, make_run: Any) -> None:
    """Every user has three records, of which the coins of these runs took two at most."""
    for name in ("a", "b"):
        make_run(tmp_path / name, mails(), promise("record", noise=4.0))
    per_record, per_user = only_group(tmp_path).totals
    assert (per_record.unit, per_user.unit) == ("record", "user")
    assert per_record.epsilon == cost(1e-3, (4.0, 80))
    assert per_user.epsilon == cost(1e-3, (4.0, 80, 2))
    assert per_user.relation == "add or remove one user"


def test_without_coins_a_user_counts_with_all_records(tmp_path: Path, promise: Any, make_run: Any) -> None:
    run = make_run(tmp_path / "a", mails(), promise("record", noise=4.0))
    run.membership.unlink()
    assert only_group(tmp_path).totals[1].epsilon == cost(1e-3, (4.0, 40, 3))


def test_per_record_beside_per_user_is_told_per_user_only(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(), promise("user", noise=2.0))
    make_run(tmp_path / "b", mails(), promise("record", noise=4.0))
    group = only_group(tmp_path)
    (together,) = group.totals
    assert together.unit == "user"
    assert together.epsilon == cost(1e-3, (2.0, 40), (4.0, 40, 2))
    assert "no total per record" in group.notes[0]
    assert together.sum_epsilon == pytest.approx(cost(1e-3, (2.0, 40)) + cost(1e-3, (4.0, 40, 2)))


def test_records_without_users_cannot_be_brought_to_users(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(), promise("user", noise=2.0))
    make_run(tmp_path / "b", [replace(one, user=None) for one in mails()], promise("record", noise=4.0))
    group = only_group(tmp_path)
    (together,) = group.totals
    assert (together.trainings, together.not_counted) == (1, 1)
    assert "at least ε" in together.sentence()
    assert any("no users: b." in note for note in group.notes)


def test_owners_of_sampled_records_and_group_privacy_are_composed_as_mixtures(
    tmp_path: Path, promise: Any, make_run: Any
) -> None:
    make_run(tmp_path / "els", mails(), promise(noise=6.0, owned=3))
    make_run(tmp_path / "group", mails(), promise(noise=6.0, owned=3, black_box=True))
    assert only_group(tmp_path).totals[0].epsilon == cost(1e-3, (6.0, 80, 3))


def test_an_owner_that_an_older_file_does_not_tell_is_not_counted_as_one(
    tmp_path: Path, promise: Any, make_run: Any
) -> None:
    """A promise for owners of three, written before that was noted: taken as of one, the sum would be too small."""
    old = json.loads(promise(noise=6.0, owned=3).to_json())
    del old["owned"], old["black_box"]
    run = make_run(tmp_path / "a", mails(), promise())
    run.promise.write_text(json.dumps(old), encoding="utf-8")
    make_run(tmp_path / "b", mails(), promise())
    group = only_group(tmp_path)
    assert "does not follow from its noise" in group.left_out[0].why_not
    assert group.totals[0].not_counted == 1


def test_without_privacy_no_bound_holds_and_it_is_said(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "private", mails(), promise())
    make_run(tmp_path / "plain", mails())
    make_run(tmp_path / "elsewhere", mails(100))
    group = only_group(tmp_path)
    assert [one.name for one in group.without_privacy] == ["plain"]
    assert "1 training on this data promised no privacy: for whoever sees those too, no ε holds" in (
        group.totals[0].sentence()
    )


def test_a_chain_is_composed_where_it_shares_people_and_named(tmp_path: Path, promise: Any, make_run: Any) -> None:
    first = make_run(tmp_path / "first", mails(), promise(noise=2.0))
    make_run(tmp_path / "second", mails(), promise(noise=3.0), base=str(first.model))
    make_run(tmp_path / "third", mails(50), promise(noise=4.0), base=str(first.model))
    same, other = ledger([tmp_path]).groups
    assert same.totals[0].epsilon == cost(1e-3, (2.0, 40), (3.0, 40))
    assert same.notes == ("second started from the model of first.",)
    assert other.totals[0].epsilon == cost(1e-3, (4.0, 40))  # others pay for what is learned on them alone


def test_a_private_training_on_a_model_that_learned_the_same_without_privacy(
    tmp_path: Path, promise: Any, make_run: Any
) -> None:
    first = make_run(tmp_path / "plain", mails())
    make_run(tmp_path / "second", mails(), promise(), base=str(first.model))
    assert "promised no privacy: what that had learned has no bound" in only_group(tmp_path).notes[0]


# ---- what gave no model --------------------------------------------------------------------------------------------


def checkpoint(folder: Path, steps: int, plan: str) -> None:
    folder.mkdir(parents=True)
    Checkpoint(plan=plan, settings="", steps=steps, event="").write(folder)


def begun(run: Any, promised: Any, *, data: str, **more: Any) -> None:
    begin(run.model, StartedTraining(plan="p", data=data, promise=promised, **more))


def data_of(run: Any) -> str:
    import yaml

    return str(yaml.safe_load((run.root / "tune.yaml").read_text())["data"])


@pytest.mark.parametrize(("checkpoints", "steps"), [((8, 16), 24), ((), 8), ((40,), 40)])
def test_an_unfinished_training_counts_up_to_the_next_look(
    tmp_path: Path, promise: Any, make_run: Any, checkpoints: tuple[int, ...], steps: int
) -> None:
    run = make_run(tmp_path / "a", mails(), promise(), weights=False)
    run.manifest.unlink()
    begun(run, promise(steps=40), data=data_of(run))
    run.checkpoints.mkdir()
    for number in checkpoints:
        checkpoint(run.checkpoints / f"checkpoint-{number}", number, "p")
    checkpoint(run.checkpoints / "checkpoint-99", 99, "another plan")
    (one,) = only_group(tmp_path).counted
    assert one.status == "unfinished"
    assert one.promise is not None
    assert one.promise.steps == steps
    assert only_group(tmp_path).totals[0].epsilon == pytest.approx(cost(1e-3, (2.0, steps)), abs=1e-9)


def test_a_training_that_was_started_over_counts_with_all_its_steps(
    tmp_path: Path, promise: Any, make_run: Any
) -> None:
    """Its checkpoints are gone, so nobody knows how far it came."""
    run = make_run(tmp_path / "a", mails(), promise(), weights=False)
    run.manifest.unlink()
    begun(run, promise(steps=40), data=data_of(run))
    begin(run.model, StartedTraining(plan="q", data=data_of(run), promise=promise(steps=40)))
    checkpoint(run.checkpoints / "checkpoint-8", 8, "q")
    assert [(one.status, one.promise.steps) for one in only_group(tmp_path).counted if one.promise] == [
        ("ended early", 40), ("unfinished", 16),
    ]  # fmt: skip


def test_a_training_that_ended_early_counts_beside_the_one_that_finished(
    tmp_path: Path, promise: Any, make_run: Any
) -> None:
    run = make_run(tmp_path / "a", mails(), promise(noise=2.0))
    begun(run, promise(noise=3.0, steps=40), data=data_of(run), steps=13)
    group = only_group(tmp_path)
    assert [one.status for one in group.counted] == ["finished", "ended early"]
    assert group.totals[0].epsilon == cost(1e-3, (2.0, 40), (3.0, 13))


def test_a_training_whose_check_failed_has_no_epsilon(tmp_path: Path, promise: Any, make_run: Any) -> None:
    run = make_run(tmp_path / "a", mails(), promise())
    begun(run, promise(), data=data_of(run), steps=13, broken=True)
    group = only_group(tmp_path)
    assert "self-check failed" in group.left_out[0].why_not
    assert "at least ε" in group.totals[0].sentence()


def test_what_ended_early_on_data_that_is_no_longer_there_is_unknown(
    tmp_path: Path, promise: Any, make_run: Any
) -> None:
    """A refused command takes its records away; what it spent stays on record, and each total is a least one."""
    run = make_run(tmp_path / "a", mails(), promise())
    begun(run, promise(), data="other data", steps=13)
    found = ledger([tmp_path])
    assert [one.name for one in found.unknown] == ["a"]
    assert "records are missing" in found.unknown[0].why_not
    assert found.groups[0].totals[0].not_counted == 1
    make_run(tmp_path / "b", mails(50), promise())
    assert [group.totals[0].not_counted for group in ledger([tmp_path]).groups] == [1, 1]


def test_a_folder_that_was_never_trained_in_is_no_training(tmp_path: Path, promise: Any, make_run: Any) -> None:
    run = make_run(tmp_path / "a", mails(), promise(), weights=False)
    run.manifest.unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert ledger([tmp_path]) == ledger([tmp_path / "empty"])
    assert ledger([tmp_path]).groups == ()


# ---- a comparison --------------------------------------------------------------------------------------------------


def test_all_cells_of_a_comparison_count_also_those_that_were_lost(tmp_path: Path, promise: Any, make_run: Any) -> None:
    root = tmp_path / "compare"
    for seed in range(3):
        make_run(root / "cells" / f"full_epsilon8_seed{seed}", mails(), promise("record"), weights=False)
    lost = make_run(root / "cells" / "lost", mails(), promise("record"), weights=False)
    make_run(root / "cells" / "none", mails(), weights=True)
    (root / "compare.yaml").write_text((lost.root / "tune.yaml").read_text())
    begun(lost, promise("record"), data=data_of(lost), steps=7)
    lost.records.rename(root / "records.parquet")
    for path in (lost.manifest, lost.membership, lost.root / "tune.yaml"):
        path.unlink()
    for group in (only_group(tmp_path), only_group(root)):
        assert group.totals[0].trainings == 4
        assert group.totals[0].epsilon == cost(1e-3, (2.0, 127))
        assert [one.name for one in group.without_privacy] == ["compare/none"]


# ---- garbage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda run: run.promise.write_text("{"), "does not hold a promise"),
        (lambda run: run.promise.write_bytes(b"\xff\xfe"), "is no text"),
        (lambda run: run.promise.write_text("[]"), "does not hold a promise"),
        (lambda run: edit(run, format=99), "of format"),
        (lambda run: edit(run, steps=10.5), "cannot be counted again"),
        (lambda run: edit(run, owned=2.5), "cannot be counted again|does not follow"),
        (lambda run: edit(run, steps=True), "cannot be counted again"),
        (lambda run: edit(run, steps=10**9), "is no number of steps"),
        (lambda run: edit(run, rate=0.0), "cannot be counted again"),
        (lambda run: edit(run, rate=2.0), "cannot be counted again"),
        (lambda run: edit(run, noise_multiplier="2"), "cannot be counted again"),
        (lambda run: edit(run, noise_multiplier=0.0), "cannot be counted again"),
        (lambda run: edit(run, noise_multiplier=1e-9), "cannot be counted again"),
        (lambda run: edit(run, noise_multiplier=9.0), "does not follow"),
        (lambda run: edit(run, epsilon=0.1), "does not follow"),
        (lambda run: edit(run, epsilon=99.0), "does not follow"),
        (lambda run: edit(run, delta=1e-300), "cannot be counted again|does not follow"),
        (lambda run: edit(run, covers=covered_spans(0.9)), "marked spans only"),
        (lambda run: edit(run, neighbouring="replace one user"), "relation is another: replace one user"),
        (lambda run: (run.root / "tune.yaml").write_text("- {"), "tune.yaml is broken"),
        (lambda run: (run.root / "tune.yaml").write_text("[]"), "tune.yaml is broken"),
        (lambda run: (run.promise.unlink(), run.manifest.write_text("{")), "manifest.json is not valid JSON"),
        (lambda run: (run.promise.unlink(), run.manifest.write_text("[]")), "manifest.json is broken"),
        (lambda run: (run.promise.unlink(), run.manifest.unlink()), "its promise is missing"),
        (lambda run: run.begun.write_text("{}\n"), "begun.jsonl is broken"),
        (lambda run: run.begun.write_text("no\n"), "begun.jsonl is broken"),
        (lambda run: run.records.unlink(), "records are missing"),
        (lambda run: run.records.write_bytes(b"PAR1"), "records are missing"),
    ],
)
def test_what_is_broken_is_named_and_the_total_says_at_least(
    tmp_path: Path, promise: Any, make_run: Any, change: Callable[[Any], Any], why: str
) -> None:
    make_run(tmp_path / "good", mails(), promise())
    run = make_run(tmp_path / "bad", [*mails(), Record(id="x", text="x", user="x")], promise())
    change(run)
    found = ledger([tmp_path])
    (group,) = found.groups
    (bad,) = [one for one in (*group.left_out, *found.unknown) if one.name == "bad"]
    assert re.search(why, bad.why_not), bad.why_not
    assert [one.name for one in group.counted] == ["good"]
    assert group.totals[0].not_counted == 1
    assert group.totals[0].sentence().count("at least ε") == 2


def edit(run: Any, **changes: Any) -> None:
    run.promise.write_text(json.dumps(json.loads(run.promise.read_text()) | changes), encoding="utf-8")


def test_a_folder_without_permission_is_named(
    tmp_path: Path, promise: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may be allowed everything, so the system's answer is played."""
    make_run(tmp_path / "good", mails(), promise())
    make_run(tmp_path / "shut", mails(), promise())
    list_folder = Path.iterdir

    def refuse(folder: Path) -> Any:
        if folder.name == "shut":
            raise PermissionError(13, "Permission denied", str(folder))
        return list_folder(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = ledger([tmp_path])
    assert [(one.name, one.why_not) for one in found.unknown] == [("shut", "shut cannot be read (Permission denied)")]
    assert found.groups[0].totals[0].not_counted == 1


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be listed"):
        ledger([tmp_path / "nowhere"])


def test_records_of_a_run_are_found_in_another_on_the_same_data(tmp_path: Path, promise: Any, make_run: Any) -> None:
    make_run(tmp_path / "a", mails(), promise()).records.unlink()
    make_run(tmp_path / "b", mails(), promise())
    assert only_group(tmp_path).totals[0].trainings == 2


def test_one_data_set_can_be_looked_at_alone(tmp_path: Path, promise: Any, make_run: Any) -> None:
    run = make_run(tmp_path / "a", mails(), promise())
    make_run(tmp_path / "b", mails(6), promise())
    (group,) = ledger([tmp_path], data=data_of(run)).groups
    assert [one.name for one in group.counted] == ["a"]


def test_the_bound_of_a_shorter_training_is_counted_for_its_steps(promise: Any) -> None:
    from reticent.spending.recorded_training import RecordedTraining, checked, shortened

    whole = checked(RecordedTraining(name="a", status="unfinished", promise=promise(noise=2.0, steps=40)))
    shorter = shortened(whole, 10).promise
    assert shorter is not None
    want = accounting.spent(Mechanism(noise_multiplier=2.0, rate=0.125), steps=10, delta=1e-3)
    assert (shorter.steps, shorter.epsilon) == (10, want.epsilon)
    assert shortened(whole, 400) == whole
    assert shortened(whole, None) == whole
