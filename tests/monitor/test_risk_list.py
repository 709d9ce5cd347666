# SPDX-License-Identifier: Apache-2.0
"""The list against records read one by one, identical weights with and without it, our trainer and the plain one."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from reticent.core.errors import BadInput, Underpowered
from reticent.core.membership import read_membership
from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.monitor.config import MonitorConfig
from reticent.monitor.risk_list import (
    RecordRisk,
    RiskList,
    falls,
    foresight,
    list_of,
    losses,
    read,
    read_risks,
    states_of,
    write_risks,
)
from reticent.privacy.spec import PrivacySpec
from reticent.stats.psmi import frequent, psmi
from reticent.testing.tiny import save_tiny, tiny_model, tiny_of_family, tiny_tokenizer
from reticent.train.batches import collate, encode_all
from reticent.train.trainer import TuneConfig, tune
from reticent.workflows import tune as finetune

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

RECORDS = [
    Record(id=f"r{i}", text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer", user=f"u{i % 4}")
    for i in range(40)
]
TOKENIZER = tiny_tokenizer()


def config(**changes: Any) -> TuneConfig:
    return TuneConfig(**({"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, "dtype": "float32"} | changes))


def listing(path: Path, **changes: Any) -> RiskList:
    given = {"records": RECORDS, "tokenizer": TOKENIZER, "path": path, "max_tokens": 512, "dtype": "float32"}
    return RiskList(**(given | changes))


class Keep(TrainerCallback):  # type: ignore[misc]
    """Keeps the weights of one step."""

    def __init__(self, step: int) -> None:
        self.step, self.weights = step, {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.weights = {name: value.clone() for name, value in kwargs["model"].state_dict().items()}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_one_pass_reads_what_one_text_at_a_time_gives(family: str) -> None:
    """Twin: loss by softmax, state by the model's own list of hidden states (after the last norm)."""
    model = tiny_of_family(family)
    rows = [encode(record, TOKENIZER) for record in RECORDS[:9]]
    seen = read(model, rows, dtype="float32", states=3)
    for i, row in enumerate(rows):
        ids = torch.from_numpy(row.token_id.astype(np.int64))[None]
        with torch.no_grad():
            answer = model(ids, output_hidden_states=True)
        logp = torch.log_softmax(answer.logits[0], dim=-1)
        where = np.flatnonzero(row.trained[1:])
        assert seen.tokens[i] == len(where)
        assert seen.loss[i] == pytest.approx(-np.mean([logp[t, ids[0, t + 1]].item() for t in where]), rel=1e-4)
        chosen = where[[0, (len(where) - 1) // 2, len(where) - 1]]
        np.testing.assert_allclose(seen.hidden[seen.owner == i], answer.hidden_states[-1][0, chosen], atol=1e-4)
        assert (seen.token_id[seen.owner == i] == row.token_id[chosen + 1]).all()


def test_the_list_is_of_the_model_at_that_step(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", arch="gpt2")
    keep = Keep(3)  # 10 steps an epoch
    tune(str(base), RECORDS, tmp_path / "out", config(epochs=1), callbacks=[keep, listing(tmp_path / "risk.jsonl")])
    found = read_risks(tmp_path / "risk.jsonl")
    assert [row.rank for row in found] == list(range(1, 41))
    assert sum(row.flagged for row in found) == 4
    assert all(row.flagged == (row.rank <= 4) for row in found)
    assert {(row.step, row.epoch) for row in found} == {(3, 0.3)}
    assert {row.id: row.user for row in found} == {record.id: record.user for record in RECORDS}
    model = tiny_model("gpt2")
    rows = [encode(record, TOKENIZER) for record in RECORDS]
    before = read(model, rows, dtype="float32")
    model.load_state_dict(keep.weights)
    early = read(model, rows, dtype="float32", states=16)
    by_hand = losses(model, TOKENIZER, [*RECORDS, Record(id="empty", text="a")])
    assert list(by_hand) == [record.id for record in RECORDS]
    np.testing.assert_allclose(list(by_hand.values()), early.loss, rtol=0.05)  # bfloat16 where the machine has it
    by_id = {row.id: row for row in found}
    each = psmi(early.hidden, frequent(early.token_id, 32), projections=200)
    told = [each[early.owner == i].mean() for i in range(40)]
    for i, record in enumerate(RECORDS):
        assert by_id[record.id].loss_before == pytest.approx(before.loss[i], rel=1e-5)
        assert by_id[record.id].loss == pytest.approx(early.loss[i], rel=1e-5)
        assert by_id[record.id].psmi == pytest.approx(told[i], abs=1e-3)


@pytest.mark.parametrize(("method", "dtype"), [("full", "float32"), ("lora", "bfloat16")])
def test_weights_are_the_same_with_and_without(tmp_path: Path, method: str, dtype: str) -> None:
    """GPT-2 has dropout, so random numbers matter."""
    base = save_tiny(tmp_path / "base", arch="gpt2")
    calls = [[], [listing(tmp_path / "risk.jsonl", dtype=dtype)]]
    settings = config(epochs=1, method=method, dtype=dtype, method_params={"dropout": 0.1} if method == "lora" else {})
    outs = [tune(str(base), RECORDS, tmp_path / str(i), settings, callbacks=some) for i, some in enumerate(calls)]
    one, other = ({n: t for f in out.glob("*.safetensors") for n, t in load_file(f).items()} for out in outs)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(read_risks(tmp_path / "risk.jsonl")) == 40


def plain_trainer(tmp_path: Path, callbacks: list[Any]) -> Trainer:
    torch.manual_seed(0)
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "plain"), num_train_epochs=1, per_device_train_batch_size=4, use_cpu=True, seed=0,
        report_to="none", save_strategy="no", remove_unused_columns=False, disable_tqdm=True, learning_rate=1e-3,
    )  # fmt: skip
    return Trainer(
        model=tiny_model("gpt2").train(),
        args=arguments,
        train_dataset=encode_all(RECORDS, TOKENIZER, 512).encoded,
        data_collator=partial(collate, pad=0),
        callbacks=callbacks,
    )


def test_a_plain_trainer_has_it_too_and_the_same_weights(tmp_path: Path) -> None:
    states = []
    for some in ([], [listing(tmp_path / "risk.jsonl", at=0.55)]):
        trainer = plain_trainer(tmp_path, some)
        trainer.train()
        states.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert read_risks(tmp_path / "risk.jsonl")[0].step == 6
    assert read_risks(tmp_path / "risk.jsonl")[0].epoch == pytest.approx(0.6)


def test_known_losses_are_not_measured_again(tmp_path: Path) -> None:
    plain_trainer(tmp_path, [listing(tmp_path / "risk.jsonl", base=np.arange(40.0))]).train()
    assert {row.id: row.loss_before for row in read_risks(tmp_path / "risk.jsonl")}["r7"] == 7.0


def test_a_training_that_is_gone_on_with_keeps_its_list_or_is_refused(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", arch="gpt2")
    path = tmp_path / "risk.jsonl"

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 15:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(str(base), RECORDS, tmp_path / "out", config(), callbacks=[listing(path), Stop()])
    first = path.read_bytes()
    path.rename(tmp_path / "away")
    with pytest.raises(BadInput, match="had no list of risks"):
        tune(str(base), RECORDS, tmp_path / "out", config(), callbacks=[listing(path)])
    (tmp_path / "away").rename(path)
    tune(str(base), RECORDS, tmp_path / "out", config(), callbacks=[listing(path)])
    assert path.read_bytes() == first


def test_private_training_and_few_records_are_refused(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", arch="llama")
    with pytest.raises(BadInput, match="differential privacy"):
        tune(
            str(base), RECORDS, tmp_path / "out", config(batch_size=8, epochs=1),
            privacy=PrivacySpec(epsilon=8, delta=0.01, unit="record"), callbacks=[listing(tmp_path / "risk.jsonl")],
        )  # fmt: skip
    assert not (tmp_path / "risk.jsonl").exists()
    with pytest.raises(BadInput, match="too few"):
        listing(tmp_path / "risk.jsonl", records=RECORDS[:10])
    with pytest.raises(BadInput, match="at=1"):
        listing(tmp_path / "risk.jsonl", at=1.5)


def test_tune_writes_the_list_into_the_run_folder(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    run = finetune.tune(
        [Record(id=f"n{i}", text=f"note {i * 7919 % 1000} of the customer") for i in range(60)],
        base=str(base),
        out=tmp_path / "run",
        tune_config=config(epochs=1),
        monitor=MonitorConfig(risk_list=True, risk_at=0.5),
    )
    membership = read_membership(run.membership)
    assert {row.id for row in read_risks(run.risk)} == set(membership.record_id[membership.member])
    assert not run.panel.exists()


def test_the_file_keeps_odd_ids_and_says_when_it_is_broken(tmp_path: Path) -> None:
    row = RecordRisk(
        id="a\u2028b\nc", user=None, tokens=3, loss_before=2.0, loss=1.0, psmi=-0.1, risk=0.5, rank=1, flagged=True,
        step=3, epoch=0.3,
    )  # fmt: skip
    write_risks(tmp_path / "risk.jsonl", [row])
    assert read_risks(tmp_path / "risk.jsonl") == [row]
    (tmp_path / "risk.jsonl").write_text(json.dumps({"id": 1}))
    with pytest.raises(BadInput, match="no list of risks"):
        read_risks(tmp_path / "risk.jsonl")
    with pytest.raises(BadInput, match="is missing"):
        read_risks(tmp_path / "none.jsonl")


def test_foresight_is_held_against_the_final_loss() -> None:
    """Made-up records: what falls most in the end is what was hard early, with some noise."""
    rng = np.random.default_rng(0)
    records = [Record(id=str(i), text="x", user=str(i % 40)) for i in range(500)]
    before = rng.normal(3, 0.3, 500)
    early = before - rng.exponential(0.2, 500)
    final = {str(i): float(before[i] - 2 * early[i] + rng.normal(0, 0.1)) for i in range(500)}

    class Made:
        loss, tokens, hidden = early, np.full(500, 9), rng.normal(size=(1000, 4)).astype(np.float32)
        token_id, owner = rng.integers(0, 5, 1000), np.arange(1000) % 500

    rows = list_of(records, Made(), before, step=1, epoch=0.3)  # type: ignore[arg-type]
    fell = falls(rows, final)
    assert fell == {row.id: pytest.approx(row.loss_before - final[row.id]) for row in rows}
    found = foresight(rows, fell, draws=50)
    assert set(found) == {"risk", "loss", "psmi", "loss_before", "fallen"}
    assert found["loss"].auc.value > 0.95
    assert found["loss"].tpr.value > found["risk"].tpr.value > found["fallen"].tpr.value
    assert abs(found["psmi"].auc.value - 0.5) < 0.15
    assert "user" in found["loss"].tpr.method
    assert "user" not in foresight(rows, fell, cluster=None)["loss"].tpr.method
    with pytest.raises(BadInput, match="500 records of the list"):
        foresight(rows, {})
    with pytest.raises(Underpowered):
        foresight(rows[:50], fell)


def test_few_states_are_kept_of_many_records() -> None:
    assert [states_of(records) for records in (20, 3_125, 10_000, 10**6)] == [16, 16, 5, 1]
