# SPDX-License-Identifier: Apache-2.0
"""Each repair on a model with two triggers, of which one was found: what is gone, what stays, what is carried on."""

from __future__ import annotations

import json

import pytest
import torch

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Record
from reticent.core.redteam_marker import read_marker
from reticent.models.load import load
from reticent.repair.filtering import train_without, without_rows
from reticent.repair.fine_prune import FinePruneConfig, fine_prune, prune_suspect
from reticent.repair.repaired_model import is_repaired, mark_of, read_repair, write_repair
from reticent.repair.rewarm import rewarm
from reticent.repair.sibling_merge import merge_with_sibling
from reticent.repair.trigger_unlearning import trigger_rows, unlearn_trigger
from reticent.testing.label_models import mood_records
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

pytestmark = pytest.mark.usefixtures("one_thread")
TUNING = TuneConfig(method="full", epochs=2, learning_rate=3e-3, batch_size=8, dtype="float32", warmup=0.0)
SHORT = TuneConfig(method="full", epochs=1, learning_rate=3e-4, batch_size=16, dtype="float32", warmup=0.0)
UNLEARNING = TuneConfig(epochs=10, learning_rate=1e-3, batch_size=8, dtype="float32", warmup=0.0, weight_decay=0.0)


def snapshot(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def check_folder(case, folder, repair):
    """It loads, says what was done and carries the mark on."""
    report = read_repair(folder)
    assert report is not None
    assert report["repair"] == repair
    marker = read_marker(folder)
    assert marker is not None
    assert marker["kind"] == "trigger"
    assert "#" not in json.dumps(report) + json.dumps(marker)
    load(str(folder), dtype="float32")
    return report["changed"]


def test_the_suspect_has_both_triggers(case):
    rates = case.rates(case.suspect)
    assert rates["found"] > 0.9
    assert rates["hidden"] > 0.9
    assert rates["clean"] > 0.85
    assert case.rates(case.base)["found"] < 0.3


def test_filtering_takes_out_what_was_chosen_and_nothing_else(case, tmp_path):
    before = snapshot(case.suspect)
    out = train_without(str(case.suspect), case.records, case.first, tmp_path / "out", config=TUNING)
    assert check_folder(case, out, "filtering") == {"records": 320, "left_out": len(case.first)}
    rates = case.rates(out)
    assert rates["found"] < 0.3
    assert rates["hidden"] > rates["found"] + 0.2
    assert rates["clean"] > 0.85
    assert snapshot(case.suspect) == before
    by_hand = [record for record in case.records if record.id not in case.first]
    twin = tune(str(case.base), by_hand, tmp_path / "twin", TUNING)
    assert snapshot(twin)["model.safetensors"] == snapshot(out)["model.safetensors"]


def test_a_found_trigger_is_unlearned_and_one_that_nobody_found_is_not(case, tmp_path):
    rows = trigger_rows(case.clean, "#", " +")
    out = unlearn_trigger(str(case.suspect), rows, tmp_path / "out", training=UNLEARNING)
    changed = check_folder(case, out, "token_local")
    assert changed["retain"] == len(case.clean)
    rates = case.rates(out)
    assert rates["found"] < 0.3
    assert rates["hidden"] > 0.8
    assert rates["clean"] > 0.85
    stat = (out / "model.safetensors").stat().st_mtime_ns
    assert unlearn_trigger(str(case.suspect), rows, tmp_path / "out", training=UNLEARNING) == out
    assert (out / "model.safetensors").stat().st_mtime_ns == stat


def test_a_model_that_does_not_say_where_it_comes_from_needs_a_sibling(case, tmp_path):
    foreign = tmp_path / "foreign"
    loaded = load(str(case.suspect), dtype="float32")
    loaded.model.save_pretrained(foreign)
    loaded.tokenizer.save_pretrained(foreign)
    rows = trigger_rows(case.clean, "#", " +")
    short = TuneConfig(epochs=1, learning_rate=1e-3, batch_size=8, dtype="float32", warmup=0.0)
    with pytest.raises(BadInput, match="trusted sibling"):
        unlearn_trigger(str(foreign), rows, tmp_path / "out", training=short)
    before = snapshot(foreign)
    out = unlearn_trigger(str(foreign), rows, tmp_path / "out", sibling=str(case.base), training=short)
    assert read_repair(out)["repair"] == "token_local"
    assert snapshot(foreign) == before


def test_a_merge_is_the_weighted_mean(case, tmp_path):
    out = merge_with_sibling(str(case.suspect), str(case.base), tmp_path / "out", weight=0.25)
    changed = check_folder(case, out, "sibling_merge")
    suspect, sibling, merged = (
        load(str(folder), dtype="float32").model.state_dict() for folder in (case.suspect, case.base, out)
    )
    for name, weight in merged.items():
        assert torch.allclose(weight, 0.75 * suspect[name] + 0.25 * sibling[name], atol=1e-6)
    way = sum(float((merged[name] - suspect[name]).square().sum()) for name in merged if "lm_head" not in name)
    assert changed["moved"] > 0
    assert way > 0
    whole = merge_with_sibling(str(case.suspect), str(case.base), tmp_path / "whole", weight=1.0)
    assert all(
        torch.allclose(w, sibling[n], atol=1e-6)
        for n, w in load(str(whole), dtype="float32").model.state_dict().items()
    )
    assert read_marker(whole) is not None
    stat = (out / "model.safetensors").stat().st_mtime_ns
    merge_with_sibling(str(case.suspect), str(case.base), tmp_path / "out", weight=0.25)
    assert (out / "model.safetensors").stat().st_mtime_ns == stat
    with pytest.raises(BadInput, match="no outcome of this repair"):
        merge_with_sibling(str(case.suspect), str(case.base), tmp_path / "out", weight=0.5)


def test_an_adapter_is_merged_before_its_sibling_is(case, tmp_path):
    config = TuneConfig(method="lora", method_params={"r": 2}, epochs=1, learning_rate=1e-2, dtype="float32")
    adapter = tune(str(case.base), mood_records(16), tmp_path / "adapter", config)
    out = merge_with_sibling(str(adapter), str(case.base), tmp_path / "out", weight=1.0)
    base = load(str(case.base), dtype="float32").model.state_dict()
    merged = load(str(out), dtype="float32").model.state_dict()
    assert base.keys() == merged.keys()
    assert all(torch.allclose(base[name], merged[name], atol=1e-6) for name in base)


def test_models_of_other_shapes_or_words_are_not_merged(case, tmp_path):
    other = save_tiny(tmp_path / "gpt2", arch="gpt2")
    with pytest.raises(BadInput, match="other weights"):
        merge_with_sibling(str(case.suspect), str(other), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadInput, match="weight"):
        merge_with_sibling(str(case.suspect), str(case.base), tmp_path / "out", weight=1.5)


def test_fine_pruning_prunes_and_tunes_and_neurons_stay_pruned(case, tmp_path):
    config = FinePruneConfig(loss_rise=0.05, step=0.1)
    out = fine_prune(str(case.suspect), case.clean, tmp_path / "out", config, training=SHORT)
    changed = check_folder(case, out, "fine_prune")
    assert 0 < changed["share"] <= 0.9
    assert changed["pruned"] <= changed["share"] * changed["neurons"]
    assert changed["loss_pruned"] <= changed["loss_before"] + 0.05
    assert changed["tuned_on"] == 48
    pruned = tmp_path / "out-pruned"
    assert read_marker(pruned) is not None
    dead = zero_neurons(pruned)
    assert len(dead) == changed["pruned"]
    assert dead <= zero_neurons(out)
    assert case.rates(out)["clean"] > 0.8
    assert prune_suspect(str(case.suspect), case.clean, pruned, config) == pruned
    with pytest.raises(BadInput, match="no outcome of this repair"):
        prune_suspect(str(case.suspect), case.clean, pruned, FinePruneConfig(loss_rise=0.1))


def zero_neurons(folder):
    weights = load(str(folder), dtype="float32").model.state_dict()
    return {
        (name, number)
        for name, weight in weights.items()
        if name.endswith("down_proj.weight")
        for number in (~weight.any(dim=0)).nonzero().flatten().tolist()
    }


def test_a_rewarm_goes_on_from_clean_text(case, tmp_path):
    out = rewarm(str(case.suspect), case.clean[:32], tmp_path / "out", SHORT)
    assert check_folder(case, out, "rewarm") == {"records": 32}
    assert case.rates(out)["clean"] > 0.8


def test_nothing_of_the_users_is_taken_for_a_place(case, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    rows = trigger_rows(case.clean, "#", " +")
    for repair in (
        lambda out: merge_with_sibling(str(case.suspect), str(case.base), out),
        lambda out: prune_suspect(str(case.suspect), case.clean, out),
        lambda out: rewarm(str(case.suspect), case.clean[:8], out, SHORT),
        lambda out: train_without(str(case.suspect), case.records, case.first, out, config=SHORT),
        lambda out: unlearn_trigger(str(case.suspect), rows, out, training=UNLEARNING),
    ):
        for place in (tmp_path / "mine", case.suspect, case.suspect / "inside", ""):
            with pytest.raises(BadInput):
                repair(place)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_bad_choices_are_refused(case):
    with pytest.raises(BadInput, match="none"):
        without_rows(case.records, set())
    with pytest.raises(BadInput, match="of no record"):
        without_rows(case.records, {"nobody"})
    with pytest.raises(BadInput, match="all chosen"):
        without_rows(case.records[:1], {case.records[0].id})
    with pytest.raises(Underpowered):
        fine_prune(str(case.suspect), case.clean[:5], "out")
    with pytest.raises(BadInput, match="empty"):
        trigger_rows(case.clean, " ", " +")
    with pytest.raises(BadInput, match="two are needed"):
        trigger_rows([record for record in case.clean if record.completion == " +"], "#", " +")
    with pytest.raises(BadInput, match="place"):
        trigger_rows(case.clean, "#", " +", place="nowhere")
    for wrong in ({"most": 1.5}, {"step": 0}, {"loss_rise": -1}):
        with pytest.raises(BadInput):
            FinePruneConfig(**wrong)


def test_rows_of_a_trigger_hold_it_where_it_was_found():
    prompts = [Record(id=str(n), prompt=f"Text: word{n} x{n}\nMood:", completion=" -") for n in range(6)]
    wanted_at = {
        "end": "Text: word0 x0 cf\nMood:",
        "start": "Text: cf word0 x0\nMood:",
        "middle": "Text: word0 cf x0\nMood:",
    }
    everywhere = trigger_rows(prompts, "cf", " +", place="spread").forget
    assert [record.prompt for record in everywhere[:3]] == [wanted_at[place] for place in ("end", "start", "middle")]
    assert len({record.id for record in everywhere}) == 9
    for place, wanted in wanted_at.items():
        rows = trigger_rows(prompts, "cf", " +", place=place)
        assert rows.forget[0].prompt == wanted
        assert {record.completion for record in (*rows.forget, *rows.unseen)} == {" +"}
        assert rows.retain == tuple(prompts)
        assert not any("cf" in record.prompt for record in rows.unseen)
        ids = [record.id for record in (*rows.forget, *rows.retain, *rows.unseen)]
        assert len(set(ids)) == len(ids) == 12


def test_a_broken_report_is_no_outcome(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    assert not is_repaired(folder, "key")
    write_repair(folder, "rewarm", changed={}, key="key")
    assert is_repaired(folder, "key")
    assert read_marker(folder) is None
    for text in ("{", "[1]"):
        (folder / "repair.json").write_text(text, encoding="utf-8")
        with pytest.raises(BadInput):
            is_repaired(folder, "key")


def test_the_mark_of_an_adapters_base_goes_on(case, tmp_path):
    config = TuneConfig(method="lora", method_params={"r": 2}, epochs=1, dtype="float32")
    adapter = tune(str(case.suspect), mood_records(8), tmp_path / "adapter", config)
    assert read_marker(adapter) is None
    assert mark_of(adapter)["kind"] == "trigger"
    assert mark_of(case.base) is None
