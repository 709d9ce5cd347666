# SPDX-License-Identifier: Apache-2.0
"""The ledger of rounds: never short, whenever the process dies, and the same round never twice with another outcome."""

import json
import os

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.federated.adaptive_clip import AdaptiveClip
from reticent.federated.round_ledger import FILE, RoundLedger
from reticent.privacy.check import GuaranteeViolated
from reticent.testing.made_up_federation import KEY, OTHER_KEY, MadeUpFederation, made_up_mechanism

MEAN = {"a": torch.ones(3)}


def spend(ledger, number, mean=MEAN, **clips):
    return ledger.spend(number, mean, **{"clip": 0.5, "next_clip": 0.5, **clips})


def test_rounds_are_on_the_disk_when_they_are_spent(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(number))
    ledger = RoundLedger(tmp_path / FILE, made_up_mechanism())
    assert len(flushed) == 2  # the file, and the folder that names it
    spend(ledger, 0)
    assert len(flushed) == 3
    header, line = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert (header["unit"], header["relation"], header["clients"], header["delta"]) == (
        "client",
        "add_or_remove",
        60,
        1e-3,
    )
    assert (line["round"], line["noise_multiplier"], line["rate"]) == (0, 1.0, 0.25)
    assert KEY.hex() not in (tmp_path / FILE).read_text()


def test_a_later_process_goes_on_with_the_rounds_and_the_clip_norm(tmp_path):
    plan = made_up_mechanism(adaptive=AdaptiveClip(bit_noise=0.75))
    ledger = RoundLedger(tmp_path / FILE, plan)
    assert (ledger.rounds, ledger.clip) == (0, 0.5)
    spend(ledger, 0, next_clip=0.6)
    spend(ledger, 1, clip=0.6, next_clip=0.7)
    again = RoundLedger(tmp_path / FILE, plan)
    assert (again.rounds, again.clip, again.spent) == (2, 0.7, ledger.spent)
    assert again.epsilon() == plan.epsilon(2)
    assert again.epsilon(1) == plan.epsilon(1)
    assert RoundLedger(tmp_path / "other", plan).epsilon().epsilon == 0


@pytest.mark.parametrize("left", range(1, 12, 2))
def test_a_line_that_was_being_written_is_dropped_as_nothing_had_left(tmp_path, left):
    path, plan = tmp_path / FILE, made_up_mechanism()
    ledger = RoundLedger(path, plan)
    spend(ledger, 0)
    whole = path.read_bytes()
    spend(ledger, 1)
    path.write_bytes(path.read_bytes()[: len(whole) + left])
    again = RoundLedger(path, plan)
    assert again.rounds == 1
    spend(again, 1)
    assert RoundLedger(path, plan).rounds == 2
    path.write_bytes(whole[:left])
    assert RoundLedger(path, plan).rounds == 0


def test_a_round_that_is_run_again_must_give_the_same(tmp_path):
    ledger = RoundLedger(tmp_path / FILE, made_up_mechanism())
    spend(ledger, 0)
    spend(ledger, 0)
    assert ledger.rounds == 1
    with pytest.raises(BadInput, match=r"round 1 was spent before.*Run it again as it was begun.*start over"):
        spend(ledger, 0, {"a": torch.tensor([1.0, 1.0, 1.0000001])})
    with pytest.raises(BadInput, match="gave something else"):
        spend(ledger, 0, next_clip=0.4)
    with pytest.raises(GuaranteeViolated, match="round 2 was run, and the ledger has 1"):
        spend(ledger, 2)


def test_a_round_clips_to_the_norm_that_the_round_before_left(tmp_path):
    ledger = RoundLedger(tmp_path / FILE, made_up_mechanism(adaptive=AdaptiveClip(bit_noise=0.75)))
    spend(ledger, 0, next_clip=0.6)
    with pytest.raises(GuaranteeViolated, match="the round before it left"):
        spend(ledger, 1)
    assert ledger.rounds == 1


@pytest.mark.parametrize(
    "changes", [{"noise_multiplier": 0.9}, {"clients": 61}, {"key": OTHER_KEY}, {"clip_norm": 0.4}, {"rounds": 7}]
)
def test_the_ledger_of_another_federation_is_refused(tmp_path, changes):
    RoundLedger(tmp_path / FILE, made_up_mechanism())
    with pytest.raises(BadInput, match="another federation, or of another key"):
        RoundLedger(tmp_path / FILE, made_up_mechanism(**changes))


@pytest.mark.parametrize("text", ["no ledger\n", "{}\n[]\n", '{}\n{"round": 0}\n'])
def test_a_broken_ledger_is_refused(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(BadInput, match="is no ledger of rounds"):
        RoundLedger(tmp_path / FILE, made_up_mechanism())


def test_a_ledger_with_a_line_left_out_is_refused(tmp_path):
    ledger = RoundLedger(tmp_path / FILE, made_up_mechanism())
    for number in range(3):
        spend(ledger, number)
    lines = (tmp_path / FILE).read_text().splitlines(keepends=True)
    (tmp_path / FILE).write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(BadInput, match="twice or not at all"):
        RoundLedger(tmp_path / FILE, made_up_mechanism())


@pytest.mark.parametrize("died", ["before the ledger", "after the ledger"])
def test_a_federation_that_died_goes_on_to_the_same_bits(tmp_path, died):
    for folder in ("straight", "broken"):
        (tmp_path / folder).mkdir()
    straight = MadeUpFederation(tmp_path / "straight").run(4)
    broken = MadeUpFederation(tmp_path / "broken").run(2)
    arrays, clip = broken.arrays, broken.clip
    closed = broken.collect(2)
    if died == "after the ledger":
        broken.spend(2, closed)
    resumed = MadeUpFederation(tmp_path / "broken")
    # The state was saved behind round 1; the ledger may be one round ahead of it.
    assert resumed.ledger.rounds == (3 if died == "after the ledger" else 2)
    resumed.arrays, resumed.clip, resumed.next, resumed.check.due = arrays, clip, 2, 2
    resumed.run(4)
    assert all(torch.equal(resumed.arrays[name], straight.arrays[name]) for name in arrays)
    assert resumed.ledger.spent == straight.ledger.spent
