# SPDX-License-Identifier: Apache-2.0
"""Each method as a whole training of a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from reticent.core.errors import BadInput
from reticent.core.record import Record, Span
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.monitor.config import MonitorConfig
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import same
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.contextual import METHODS, ContextualConfig
from reticent.train.hardening import HardenConfig
from reticent.train.objectives.token_classifier import read_classifier
from reticent.train.trainer import LOG, tune
from reticent.workflows.tune import tune as tune_run

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""


def records() -> list[Record]:
    found = []
    for i in range(16):
        code = str(1000 + i * 7919 % 9000)
        text = f"code {code} of the order" if i % 4 else "the order of the code"
        spans = (Span(start=5, end=9, kind="CODE"),) if i % 4 else ()
        found.append(Record(id=str(i), text=text, user=f"u{i}", spans=spans))
    return found


RECORDS = records()
HELD_OUT = [Record(id=f"h{i}", text=f"code {i * 104729 % 10000} of the order") for i in range(4)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


def config(**changes: Any) -> TuneConfig:
    return TuneConfig(**({"learning_rate": 1e-2, "epochs": 2, "batch_size": 8, "dtype": "float32"} | changes))


def nll(out: str, marked: bool) -> float:
    """Mean loss of the trained records' tokens in spans, or outside of them."""
    loaded = load(out, dtype="float32")
    losses = []
    for record in RECORDS:
        one = encode(record, loaded.tokenizer, mark_spans=True)
        ids = torch.tensor(one.token_id.astype(np.int64))
        logp = torch.log_softmax(loaded.model(ids[None]).logits[0], -1)
        assert one.marked is not None
        losses += [-logp[t - 1, ids[t]].item() for t in range(1, len(ids)) if one.marked[t] == marked]
    return float(np.mean(losses))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tuning", ["full", "lora", "prompt"])
def test_every_method_trains_every_way_and_says_so(base: str, tmp_path: Path, method: str, tuning: str) -> None:
    contextual = ContextualConfig(contextual=method)
    out = tune(base, RECORDS, tmp_path / "out", config(method=tuning, epochs=1), objectives=contextual.objectives)
    log = json.loads((out / LOG).read_text())
    assert log["contextual"]["contextual"] == method
    load(str(out), dtype="float32")
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, RECORDS, out, config(method=tuning, epochs=1))
    moved = [replace(record, spans=tuple(replace(span, end=8) for span in record.spans)) for record in RECORDS]
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, moved, out, config(method=tuning, epochs=1), objectives=contextual.objectives)


@pytest.mark.parametrize("method", ["removal", "substitution", "unlikelihood", "dpo"])
def test_what_is_in_spans_is_learned_less_than_by_plain_training(base: str, tmp_path: Path, method: str) -> None:
    longer = config(epochs=12)
    plain = str(tune(base, RECORDS, tmp_path / "plain", longer))
    out = str(tune(base, RECORDS, tmp_path / "out", longer, objectives=ContextualConfig(contextual=method).objectives))
    assert nll(out, marked=True) > nll(plain, marked=True) + 0.5
    assert nll(out, marked=False) < nll(base, marked=False) - 1


def test_the_held_out_loss_is_that_of_texts_as_they_are(base: str, tmp_path: Path) -> None:
    still = config(learning_rate=1e-12, epochs=1)
    found = []
    for i, method in enumerate([None, "unlikelihood", "dpo", "instruct_pn"]):
        contextual = ContextualConfig(contextual=method)
        out = tune(base, RECORDS, tmp_path / str(i), still, held_out=HELD_OUT, objectives=contextual.objectives)
        history = json.loads((out / LOG).read_text())["history"]
        found.append(next(entry["eval_loss"] for entry in history if "eval_loss" in entry))
    assert found == pytest.approx([found[0]] * 4, rel=1e-6)


class Seen(TrainerCallback):  # type: ignore[misc]
    pairs: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pairs = kwargs["train_dataloader"].dataset


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_base_of_a_preference_is_the_base(base: str, tmp_path: Path, tuning: str) -> None:
    seen = Seen()
    contextual = ContextualConfig(contextual="dpo")
    tune(
        base,
        RECORDS,
        tmp_path / "out",
        config(method=tuning, epochs=1),
        objectives=contextual.objectives,
        callbacks=[seen],
    )
    loaded = load(base, dtype="float32")

    def logp(one: Any) -> float:
        ids = torch.tensor(one.token_id.astype(np.int64))
        each = torch.log_softmax(loaded.model(ids[None]).logits[0], -1)
        return sum(each[t - 1, ids[t]].item() for t in range(1, len(ids)))

    assert [pair.rejected is None for pair in seen.pairs] == [not record.spans for record in RECORDS]
    for pair in seen.pairs:
        if pair.rejected is not None:
            assert pair.base_chosen == pytest.approx(logp(pair.chosen), abs=1e-3)
            assert pair.base_rejected == pytest.approx(logp(pair.rejected), abs=1e-3)


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches kill -9."""


class Kill(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise Killed


@pytest.mark.parametrize("method", ["unlikelihood", "dpo"])
def test_killed_and_called_again_it_ends_with_the_same_weights(base: str, tmp_path: Path, method: str) -> None:
    contextual = ContextualConfig(contextual=method)
    whole = tune(base, RECORDS, tmp_path / "whole", config(), objectives=contextual.objectives)
    with pytest.raises(Killed):
        tune(base, RECORDS, tmp_path / "killed", config(), objectives=contextual.objectives, callbacks=[Kill()])
    assert same(whole, tune(base, RECORDS, tmp_path / "killed", config(), objectives=contextual.objectives))


def test_the_classifier_lies_below_the_model_which_is_the_plain_one(base: str, tmp_path: Path) -> None:
    plain = tune(base, RECORDS, tmp_path / "plain", config())
    out = tune(
        base, RECORDS, tmp_path / "out", config(), objectives=ContextualConfig(contextual="classifier").objectives
    )
    assert same(plain, out)
    assert read_classifier(out).weight.shape == (32,)
    assert json.loads((out / LOG).read_text())["contextual"]["left_out_recall"] >= 0


def test_without_spans_nothing_is_personal(base: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no record has a span"):
        tune(base, HELD_OUT, tmp_path / "out", config(), objectives=ContextualConfig(contextual="removal").objectives)


def test_curation_goes_with_a_promise(base: str, tmp_path: Path) -> None:
    contextual = ContextualConfig(contextual="substitution")
    settings = config(batch_size=4, epochs=2, warmup=0.0)
    told = [replace(record, text=f"{record.text} {'!' * i}") for i, record in enumerate(RECORDS)]
    out = tune(
        base,
        told,
        tmp_path / "out",
        settings,
        privacy=PrivacySpec(noise_multiplier=1),
        objectives=contextual.objectives,
    )
    assert (out / "privacy.json").exists()


def test_a_run_says_what_was_done_and_is_not_watched_where_texts_are_rewritten(base: str, tmp_path: Path) -> None:
    contextual = ContextualConfig(contextual="removal")
    mails = [
        replace(one, id=f"{one.id}-{n}", text=f"{one.text} {n}{'!' * i}")
        for i, one in enumerate(RECORDS)
        for n in range(3)
    ]
    run = tune_run(mails, base=base, out=tmp_path / "run", tune_config=config(), contextual=contextual)
    assert json.loads(run.manifest.read_text())["tune"]["contextual"] == {"contextual": "removal"}
    with pytest.raises(BadInput, match="with the monitor"):
        tune_run(
            RECORDS,
            base=base,
            out=tmp_path / "watched",
            tune_config=config(),
            contextual=contextual,
            monitor=MonitorConfig(monitor=True),
        )
    with pytest.raises(BadInput, match="silently be left out"):
        tune_run(
            RECORDS,
            base=base,
            out=tmp_path / "both",
            contextual=ContextualConfig(contextual="dpo"),
            harden=HardenConfig(loss_floor=1.0),
        )
