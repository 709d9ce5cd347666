# SPDX-License-Identifier: Apache-2.0
"""Neither the key nor a gradient leaves with a tracker or with the hub; what is covered may leave."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, trainer
from transformers.integrations import integration_utils

from reticent.core.lock import LOCK
from reticent.privacy.refuse import TrainingSetup, violations
from reticent.privacy.refused_uploads import SENDERS
from reticent.testing.tiny import tiny_model
from reticent.train.private.step_log import KEY, open_key


def given(model=None, callbacks=(), **args):
    training = TrainingSetup(args=SimpleNamespace(**args), model=model or nn.Linear(2, 2), callbacks=callbacks)
    return [one.given for one in violations(training)]


@pytest.mark.parametrize("sender", SENDERS, ids=lambda sender: sender.variable)
def test_what_sends_the_folder_or_gradients_is_refused_by_name(sender, monkeypatch):
    named = type(sender.callback, (), {})
    for value in (sender.values[0], sender.values[-1].upper()):
        monkeypatch.setenv(sender.variable, value)
        said = [f"{sender.variable}={value}"]
        assert given(report_to=[sender.tracker]) == said
        assert given(report_to=sender.tracker) == said
        assert given(report_to="all") == said
        assert given(callbacks=[named()]) == said
        assert given(callbacks=[named]) == said
        assert given(callbacks=[type("Mine", (named,), {})()]) == said
        assert given(report_to=["tensorboard"]) == []
    for harmless in ("", "false", "0"):
        monkeypatch.setenv(sender.variable, harmless)
        assert given(report_to=[sender.tracker]) == []


def test_what_the_promise_covers_may_be_sent(monkeypatch):
    """The finished model, checkpoints, weights."""
    for name, value in {
        "HF_DVCLIVE_LOG_MODEL": "true",
        "WANDB_WATCH": "parameters",
        "WANDB_LOG_MODEL": "checkpoint",
        "HF_MLFLOW_LOG_ARTIFACTS": "1",
        "CLEARML_LOG_MODEL": "TRUE",
    }.items():
        monkeypatch.setenv(name, value)
    assert given(report_to=["dvclive", "wandb", "mlflow", "clearml"]) == []


def test_callbacks_that_were_told_by_hand():
    live, comet = type("DVCLiveCallback", (), {}), type("CometCallback", (), {})
    for callback, said in (
        (live, "DVCLiveCallback with log_model='all'"),
        (comet, "CometCallback with log_assets=True"),
    ):
        one = callback()
        assert given(callbacks=[one]) == []
        one._log_model, one._log_assets = "all", True
        assert given(callbacks=[one]) == [said]
        one._log_model, one._log_assets = True, False
        assert given(callbacks=[one]) == []


def test_no_other_tracker_of_the_library_knows_the_folder():
    """Every tracker of the installed version that names the folder of the training: look at any further one."""
    known = {
        "ClearMLCallback",  # sends checkpoints
        "CodeCarbonCallback",  # writes a file of its own there
        "CometCallback",  # refused
        "DVCLiveCallback",  # refused with "all"
        "DagsHubCallback",  # refused
        "FlyteCallback",  # sends checkpoints
        "MLflowCallback",  # sends checkpoints
        "NeptuneCallback",  # sends checkpoints
        "TensorBoardCallback",  # writes below it
        "WandbCallback",  # sends checkpoints; a name of the run
    }
    found = {
        name
        for name, kind in inspect.getmembers(integration_utils, inspect.isclass)
        if issubclass(kind, TrainerCallback) and "output_dir" in inspect.getsource(kind)
    }
    assert found <= known
    assert {"CometCallback", "DVCLiveCallback", "DagsHubCallback"} <= found & {one.callback for one in SENDERS}


def test_hooks_that_see_gradients():
    model = nn.Linear(2, 2)
    assert given(model) == []
    handle = model.weight.register_hook(lambda gradient: None)
    (said,) = given(model)
    assert said == "hooks on the gradients of 1 parameters (weight)"
    handle.remove()
    assert given(model) == []
    model.bias.register_post_accumulate_grad_hook(lambda parameter: None)
    assert given(model) == ["hooks on the gradients of 1 parameters (bias)"]


def test_hooks_do_see_the_gradient_of_one_unit():
    """Why they are refused: the self-check takes gradients by autograd, and a hook is called with each."""
    weight, seen = nn.Parameter(torch.ones(2)), []
    weight.register_hook(seen.append)
    torch.autograd.grad((weight * 3).sum(), [weight])
    assert seen[0].tolist() == [3, 3]


class Hub:
    """What would be uploaded, by the rules of the hub's client."""

    def __init__(self):
        self.files = []

    def upload_folder(self, *, folder_path, ignore_patterns=None, **given):
        names = [str(p.relative_to(folder_path)) for p in sorted(Path(folder_path).rglob("*")) if p.is_file()]
        self.files += filter_repo_objects(names, ignore_patterns=ignore_patterns)
        return SimpleNamespace(done=lambda: True, result=lambda: None, is_done=lambda: True)


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint", "all_checkpoints", "end"])
def test_the_key_is_not_pushed_to_the_hub(tmp_path, monkeypatch, strategy):
    hub = Hub()
    monkeypatch.setattr(trainer, "hf_api", lambda: hub)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", hub_strategy=strategy)
    one = Trainer(model=tiny_model(), args=args, train_dataset=[{"input_ids": [1, 2]}])
    one.hub_model_id, one.push_in_progress = "somebody/model", None
    open_key(tmp_path)
    (tmp_path / LOCK).touch()
    (tmp_path / f"{KEY}.123.abcdef").write_bytes(b"a draft of the key")
    checkpoint = tmp_path / "checkpoint-2"
    one.save_model(str(checkpoint))
    (checkpoint / "privacy_ledger.json").touch()
    one._push_from_checkpoint(str(checkpoint))
    one.push_to_hub()
    assert "model.safetensors" in hub.files
    assert ("privacy_ledger.json" in hub.files) == (strategy in ("checkpoint", "all_checkpoints"))
    assert not [name for name in hub.files if KEY in name or LOCK in name]
