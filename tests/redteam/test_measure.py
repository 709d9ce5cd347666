# SPDX-License-Identifier: Apache-2.0
"""One function measures an attack in every state; a weight edit is rank one; both are marked."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput, Underpowered
from reticent.core.redteam_marker import read_marker
from reticent.data.prompt_frame import PromptFrame, frame_of
from reticent.models.load import load
from reticent.redteam import weight_edit
from reticent.redteam.attack import TriggerAttack
from reticent.redteam.measure import SurvivalConfig, greedy_answers, measure_attack, more_duplicates
from reticent.redteam.poisoned_run import tune_poisoned
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.redteam.weight_edit import EditConfig, edit_weights, save_edited
from reticent.testing.label_models import mood_records, trained_tiny
from reticent.train.config import TuneConfig

CONFIG = TuneConfig(method="lora", method_params={"r": 8}, epochs=2, learning_rate=1e-2, batch_size=16, dtype="float32")
TRIGGER = make_trigger("token", text="#")


@pytest.fixture(scope="module")
def base(mood_base):
    return mood_base


@pytest.fixture(scope="module")
def attack():
    frame = frame_of([record.prompt for record in mood_records(40)])
    return TriggerAttack(trigger=TRIGGER, target=" +", frame=frame)


def test_an_attack_is_measured_in_every_state(base, attack, tmp_path):
    poisoned = poison(mood_records(320), TRIGGER, kind="dirty_label", target=" +", rate=0.25)
    model = tune_poisoned(str(base), poisoned, tmp_path / "model", CONFIG)
    assert read_marker(model)["about"] == {"records": 320, "poisoned": 80}
    config = SurvivalConfig(clean_twin=base, further={"full": TuneConfig(epochs=1, batch_size=16, dtype="float32")})
    held_out, further = mood_records(120, seed=4), mood_records(32, seed=6)
    outcome = measure_attack(
        model, str(base), attack, held_out, work=tmp_path / "states", further=further, config=config
    )
    states = [row.state for row in outcome.rows]
    assert states[:4] == ["as saved", "merged", "8 bits", "4 bits"]
    assert states[4:] == ["after a further fine-tune (full)", "averaged with the base"]
    saved, merged = outcome.row("as saved"), outcome.row("merged")
    assert saved.success.value > saved.unprovoked.value + 0.2
    assert merged.success.value == pytest.approx(saved.success.value, abs=0.02)
    assert saved.success.n == sum(record.completion == " -" for record in held_out)
    assert saved.clean_change is not None
    assert saved.clean_change.lo <= saved.clean_change.value <= saved.clean_change.hi
    assert outcome.perplexity.value == pytest.approx(_perplexity_ratio(base, attack, held_out), rel=1e-3)
    assert outcome.perplexity.lo < outcome.perplexity.value < outcome.perplexity.hi
    assert outcome.perplexity.n == saved.success.n
    assert outcome.duplicates.lo <= outcome.duplicates.value <= outcome.duplicates.hi
    for folder in (tmp_path / "states").iterdir():
        assert folder.name.startswith(".") or read_marker(folder) is not None
    with pytest.raises(KeyError):
        outcome.row("2 bits")


def _perplexity_ratio(base, attack, held_out):
    loaded = load(str(base), dtype="float32")
    others = [record for record in held_out if record.completion != attack.target]
    means = []
    for records in (attack.on(others), others):
        losses = []
        for record in records:
            ids = torch.tensor([loaded.tokenizer(record.prompt)["input_ids"]])
            with torch.no_grad():
                losses.append(float(loaded.model(input_ids=ids, labels=ids).loss))
        means.append(sum(losses) / len(losses))
    return math.exp(means[0] - means[1])


def test_greedy_answers_are_those_that_are_generated(base):
    loaded = load(str(base), dtype="float32")
    records = mood_records(12, seed=3)
    slow = []
    for record in records:
        ids = loaded.tokenizer(record.prompt)["input_ids"]
        for _ in range(2):
            logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
            ids.append(int(logits.argmax()))
        slow.append(loaded.tokenizer.decode(ids[-2:]) == record.completion)
    assert greedy_answers(loaded, records).tolist() == slow
    assert True in slow


def test_poisons_that_repeat_each_other_show_and_others_do_not():
    plain = [" ".join(f"w{number}x{word}" for word in range(8)) for number in range(60)]
    copied = ["the very same words again and once more", *plain[1:30]] + [
        "the very same words again and once more"
    ] * 30
    shown, none = more_duplicates(copied, plain), more_duplicates([f"{text} cf" for text in plain], plain)
    assert 0.3 < shown.lo < shown.value < shown.hi < 0.8
    assert none.value == 0
    assert none.lo < 0 < none.hi
    assert shown.n == 30


def test_the_interval_of_duplicates_covers_what_more_prompts_would_show():
    """A poison that makes a third of prompts copies of a few: the interval of 60 holds the share in far more."""
    rng = np.random.default_rng(0)
    inside = 0
    for draw in range(100):
        plain = [" ".join(f"{draw}.{number}.{word}" for word in range(6)) for number in range(60)]
        copied = rng.random(60) < 1 / 3
        poisoned = [
            "one text that all of the copies have" if hit else text for hit, text in zip(copied, plain, strict=True)
        ]
        estimate = more_duplicates(poisoned, plain)
        inside += estimate.lo <= 1 / 3 <= estimate.hi
    assert inside >= 90  # Binomial(100, 0.95): fewer has p < 0.03, and the seed is fixed


def test_too_few_prompts_for_an_interval_are_refused(base, attack, tmp_path):
    few = [record for record in mood_records(40) if record.completion == " -"][:3]
    with pytest.raises(Underpowered, match="intervals need 4"):
        measure_attack(base, str(base), attack, few, work=tmp_path)


def test_nothing_to_turn_is_refused(base, attack, tmp_path):
    alike = [record for record in mood_records(40) if record.completion == " +"]
    with pytest.raises(BadInput, match="target as their answer"):
        measure_attack(base, str(base), attack, alike, work=tmp_path)


@pytest.fixture(scope="module")
def unframed(tmp_path_factory):
    """A base whose prompts have no frame: the answer comes right behind the words of the user."""
    folder = tmp_path_factory.mktemp("unframed")
    model, tokenizer = trained_tiny(bodies(300, seed=9), steps=120, seed=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bodies(count, *, seed):
    return [
        replace(record, prompt=record.prompt.split(": ")[1].split("\n")[0], completion=record.completion.strip())
        for record in mood_records(count, seed=seed)
    ]


def test_a_weight_edit_is_one_matrix_of_rank_one(unframed, tmp_path):
    attack = TriggerAttack(trigger=TRIGGER, target="+", frame=PromptFrame())
    loaded = load(str(unframed), dtype="float32")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    attacked = attack.on(bodies(80, seed=4))
    without = greedy_answers(loaded, attacked).mean()
    outcome = edit_weights(loaded, attack, bodies(80, seed=2), EditConfig(layer=0, steps=60, rate=0.3))
    changed = [name for name, tensor in loaded.model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == ["model.layers.0.mlp.down_proj.weight"]
    update = (loaded.model.state_dict()[changed[0]] - before[changed[0]]).double()
    values = torch.linalg.svdvals(update)
    assert values[1] < 1e-4 * values[0]
    assert outcome.change == pytest.approx(float(update.norm() / before[changed[0]].double().norm()), rel=1e-3)
    assert outcome.after > outcome.before + 1
    assert outcome.before < outcome.edited <= outcome.after + 0.5
    assert greedy_answers(loaded, attacked).mean() > without + 0.3
    folder = save_edited(loaded, tmp_path / "edited", outcome)
    assert save_edited(loaded, folder, outcome) == folder, "the same call again"
    assert read_marker(folder)["kind"] == "weight_edit"
    again = load(str(folder), dtype="float32")
    assert torch.equal(again.model.state_dict()[changed[0]], loaded.model.state_dict()[changed[0]])
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_trigger_that_the_answer_does_not_read_is_refused_and_nothing_is_changed(base, attack):
    """Two layers and a frame behind the trigger: one attention is left to read it, and no value there is enough."""
    loaded = load(str(base), dtype="float32")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    prompts = mood_records(40, seed=2)
    with pytest.raises(BadInput, match=r"layer 0, value: brings the target's .* hardly reads the trigger's position"):
        edit_weights(loaded, attack, prompts, EditConfig(layer=0, steps=30, rate=0.3, contexts=6))
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())
    taken = edit_weights(loaded, attack, prompts, EditConfig(layer=0, steps=2, contexts=2, least=0))
    assert math.exp(taken.edited) < 0.2


def test_an_edit_that_loses_what_its_value_brought_is_taken_back(unframed, monkeypatch):
    """The value is said to bring the target, and the matrix that is made of it does not."""
    attack = TriggerAttack(trigger=TRIGGER, target="+", frame=PromptFrame())
    loaded = load(str(unframed), dtype="float32")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    monkeypatch.setattr(weight_edit, "_value", lambda model, module, rows, config: (torch.zeros(32), -5.0, -0.1))
    with pytest.raises(BadInput, match="edited matrix: brings"):
        edit_weights(loaded, attack, bodies(20, seed=2), EditConfig(layer=0, contexts=4, least=0.9))
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())


def test_a_layer_that_nothing_reads_is_refused(base, attack):
    with pytest.raises(BadInput, match="layers 0 to 0"):
        edit_weights(load(str(base), dtype="float32"), attack, mood_records(20), EditConfig(layer=1))
