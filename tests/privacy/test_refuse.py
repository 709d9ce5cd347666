# SPDX-License-Identifier: Apache-2.0
"""Each setting that voids the guarantee is refused by itself, with a reason and a fix; what is harmless passes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.data.data_collator import DataCollatorWithFlattening
from trl import SFTConfig

from reticent.core.errors import BadInput
from reticent.privacy.refuse import RULES, TrainingSetup, copies, refuse, violations
from reticent.privacy.refused_settings import SETTINGS
from reticent.testing.tiny import tiny_model

CPU = {"output_dir": "unused", "use_cpu": True, "report_to": "none"}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def args(kind=TrainingArguments, **changed):
    return kind(**CPU | {"max_grad_norm": 0.0} | changed)


def given(model, arguments=None, **changed):
    training = TrainingSetup(args=arguments or args(), model=model, **changed)
    return [one.given for one in violations(training)]


def test_nothing_stands_against_plain_settings(model):
    assert given(model) == []
    assert given(model, args(SFTConfig, bf16=False)) == []
    assert (
        given(model, args(bf16=True, gradient_checkpointing=True, weight_decay=0.1, lr_scheduler_type="cosine")) == []
    )
    refuse(TrainingSetup(args=args(), model=model, rows=[[1, 2], [1, 3]], evaluation_rows=[[4]], train_dataset=[1, 2]))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (SFTConfig, "packing", True),
        (SFTConfig, "padding_free", True),
        (SFTConfig, "loss_type", "dft"),
        (TrainingArguments, "train_sampling_strategy", "group_by_length"),
        (TrainingArguments, "train_sampling_strategy", "sequential"),
        (TrainingArguments, "dataloader_drop_last", True),
        (TrainingArguments, "ignore_data_skip", True),
        (TrainingArguments, "gradient_accumulation_steps", 4),
        (TrainingArguments, "max_grad_norm", 1.0),
        (TrainingArguments, "auto_find_batch_size", True),
        (TrainingArguments, "neftune_noise_alpha", 5.0),
        (TrainingArguments, "label_smoothing_factor", 0.1),
        (TrainingArguments, "include_num_input_tokens_seen", "all"),
        (TrainingArguments, "optim", "galore_adamw_layerwise"),
        (TrainingArguments, "optim", "lomo"),
        (TrainingArguments, "debug", "underflow_overflow"),
        (None, "group_by_length", True),
        (None, "fp16", True),
        (None, "torch_compile", True),
        (None, "use_liger_kernel", True),
        (None, "deepspeed", {"zero_optimization": {"stage": 2}}),
        (None, "fsdp", "full_shard"),
        (None, "parallelism_config", object()),
        (None, "n_gpu", 2),
    ],
)
def test_each_setting(model, kind, name, value):
    """``None``: the library itself refuses the value on this machine, so a stand-in has it."""
    arguments = args(kind, **{name: value}) if kind else SimpleNamespace(**{name: value})
    (found,) = given(model, arguments)
    assert found.startswith(f"{name}=")
    assert name in {setting.name for setting in SETTINGS}


def test_every_setting_is_one_that_some_version_has():
    known = {*vars(SFTConfig)["__dataclass_fields__"], "n_gpu", "group_by_length"}
    assert {setting.name for setting in SETTINGS} <= known


def test_the_default_clipping_of_the_trainer_is_refused(model):
    assert given(model, TrainingArguments(**CPU)) == ["max_grad_norm=1.0"]


def test_all_reasons_are_said_together(model):
    arguments = args(dataloader_drop_last=True, gradient_accumulation_steps=2)
    with pytest.raises(BadInput) as caught:
        refuse(TrainingSetup(args=arguments, model=model, compute_loss_func=len))
    said = str(caught.value)
    for part in ("dataloader_drop_last", "gradient_accumulation_steps=2", "compute_loss_func", "for 3 reasons"):
        assert part in said


def test_one_reason_is_said_plainly(model):
    with pytest.raises(BadInput) as caught:
        refuse(TrainingSetup(args=args(max_grad_norm=0.5), model=model))
    assert caught.value.given == "max_grad_norm=0.5"
    assert "max_grad_norm=0" in caught.value.fix


def test_every_rule_gives_a_reason_and_a_fix():
    assert all(setting.why and setting.fix.endswith(".") for setting in SETTINGS)
    assert len(set(RULES)) == len(RULES)


class WithLayer(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer


def test_modules_that_mix_records():
    assert given(WithLayer(nn.LayerNorm(3))) == []
    assert given(WithLayer(nn.GroupNorm(1, 3))) == []
    assert given(WithLayer(nn.InstanceNorm1d(3))) == []
    assert given(WithLayer(nn.BatchNorm1d(3))) == ["BatchNorm1d at layer"]
    assert given(WithLayer(nn.SyncBatchNorm(3))) == ["SyncBatchNorm at layer"]
    assert given(WithLayer(nn.BatchNorm1d(3).eval())) == ["BatchNorm1d at layer"]
    assert given(WithLayer(nn.InstanceNorm1d(3, track_running_stats=True))) == ["InstanceNorm1d at layer"]


def with_config(**config):
    one = WithLayer(nn.Linear(2, 2))
    one.config = SimpleNamespace(**config)
    return one


def test_experts():
    assert given(with_config(output_router_logits=False, router_aux_loss_coef=0.01)) == []
    assert given(with_config(output_router_logits=True, router_aux_loss_coef=0)) == []
    (said,) = given(with_config(output_router_logits=True, router_aux_loss_coef=0.01))
    assert "router_aux_loss_coef=0.01" in said
    assert given(with_config(expert_capacity=64)) == ["expert_capacity=64"]
    nested = with_config(text_config=SimpleNamespace(output_router_logits=True, router_aux_loss_coef=0.01))
    assert len(given(nested)) == 1
    moe = with_config(output_router_logits=False, router_aux_loss_coef=0.01)
    assert len(given(moe, args(SFTConfig, bf16=False, router_aux_loss_coef=0.01))) == 1
    assert given(moe, args(SFTConfig, bf16=False, router_aux_loss_coef=0.0)) == []


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_longest_row(kind):
    rope = {"rope_type": kind, "original_max_position_embeddings": 8}
    for config in (
        {"rope_parameters": rope, "max_position_embeddings": 32},
        {"rope_parameters": {"full_attention": rope, "sliding_attention": {"rope_type": "default"}}},
        {"rope_scaling": {"type": kind}, "max_position_embeddings": 8},
    ):
        assert given(with_config(**config), rows=[[1] * 8]) == []
        assert len(given(with_config(**config), rows=[[1] * 9])) == 1
        assert len(given(with_config(**config))) == 1
    assert given(with_config(rope_parameters={"rope_type": "llama3"})) == []


def test_wrapped_models():
    inner = nn.Linear(2, 2)
    assert "DataParallel" in given(nn.DataParallel(inner))[0]


def test_dtypes_of_what_is_trained(model):
    assert "in bfloat16" in given(tiny_model().to(torch.bfloat16))[0]
    frozen = tiny_model().to(torch.bfloat16).requires_grad_(False)
    adapted = get_peft_model(frozen, LoraConfig(target_modules=["q_proj"]))
    assert given(adapted) == []
    for name, p in adapted.named_parameters():
        if "lora_" in name:
            p.data = p.data.half()
    assert "4 trained parameters in float16" in given(adapted)[0]

    class Params4bit(nn.Parameter):
        pass

    quantised = WithLayer(nn.Linear(2, 2, bias=False))
    quantised.layer.weight = Params4bit(torch.zeros(2, 2))
    assert "in Params4bit" in given(quantised)[0]


def test_quantised_bases():
    assert given(with_config(quantization_config={"load_in_4bit": True, "quant_method": "bitsandbytes"})) == []
    found = given(with_config(quantization_config={"load_in_8bit": True, "quant_method": "bitsandbytes"}))
    assert found == ["quantization_config bitsandbytes"]
    as_object = SimpleNamespace(to_dict=lambda: {"quant_method": "fp8"})
    assert given(with_config(quantization_config=as_object)) == ["quantization_config fp8"]


@pytest.mark.parametrize("start", ["eva", "corda", "lora_ga"])
def test_adapters_that_start_from_data(start):
    one = with_config()
    one.peft_config = {"default": SimpleNamespace(init_lora_weights=start)}
    assert given(one) == [f"init_lora_weights={start!r} of adapter 'default'"]
    one.peft_config = {"default": SimpleNamespace(init_lora_weights=True), "prompt": SimpleNamespace()}
    assert given(one) == []


def test_steering_by_a_loss_must_be_declared(model):
    early = EarlyStoppingCallback()
    assert given(model, callbacks=[early]) == ["EarlyStoppingCallback"]
    assert given(model, callbacks=[EarlyStoppingCallback]) == ["EarlyStoppingCallback"]
    best = args(load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch")
    assert given(model, best) == ["load_best_model_at_end=True"]
    assert given(model, args(save_strategy="best", metric_for_best_model="loss")) == ['save_strategy="best"']
    plateau = args(lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch")
    assert given(model, plateau) == ["lr_scheduler_type='reduce_lr_on_plateau'"]
    for said in ("held_out", "public"):
        assert given(model, best, callbacks=[early], evaluation=said) == []


def test_evaluating_on_what_is_trained_on_is_refused_whatever_is_declared(model):
    found = given(model, rows=[[1, 2], [3]], evaluation_rows=[[3], [4]], evaluation="public")
    assert found == ["1 of 2 evaluation records"]


def test_copies_of_a_record(model):
    rows = [[1, 2], [3], [1, 2], [1, 2]]
    assert copies(rows) == [2, 3]
    assert given(model, rows=rows) == ["2 of 4 records"]
    assert given(model, rows=rows, unit="user") == []


def test_streams_losses_and_collators(model):
    assert given(model, train_dataset=iter([1])) == ["train_dataset list_iterator"]
    assert given(model, compute_loss_func=len) == ["compute_loss_func"]
    assert given(model, collator=DataCollatorWithFlattening()) == ["DataCollatorWithFlattening"]


def test_the_folder_with_the_key_is_not_uploaded(model, monkeypatch):
    monkeypatch.setenv("COMET_LOG_ASSETS", "TRUE")
    assert given(model, SimpleNamespace(report_to=["comet_ml"])) == ["COMET_LOG_ASSETS=TRUE"]
    assert given(model, SimpleNamespace(report_to=["tensorboard"])) == []
    monkeypatch.setenv("COMET_LOG_ASSETS", "FALSE")
    assert given(model, SimpleNamespace(report_to=["comet_ml"])) == []


def test_batches_shared_out_twice(model):
    for name in ("split_batches", "dispatch_batches"):
        assert given(model, args(accelerator_config={name: True})) == [f"accelerator_config.{name}=True"]


def test_noise_on_embeddings_does_depend_on_the_padded_length():
    """Why NEFTune is refused: a record's noise is scaled by the length of the longest row beside it."""
    from transformers.integrations.neftune import neftune_post_forward_hook

    embedding = nn.Embedding(4, 8).train()
    embedding.neftune_noise_alpha = 5.0
    embedding.weight.data.zero_()

    def largest(length):
        torch.manual_seed(0)
        ids = torch.zeros(1, length, dtype=torch.long)
        return neftune_post_forward_hook(embedding, (ids,), embedding(ids))[0, 0].abs().max()

    assert largest(100) < 0.5 * largest(4)


def test_longer_neighbours_do_change_dynamic_positions():
    """Why dynamic rotary positions are refused: a record's logits change when a longer one is in its batch."""
    one = tiny_model()
    one.config.rope_parameters = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    one.config.max_position_embeddings = 8
    dynamic = type(one)(one.config).eval()
    ids = torch.randint(0, 250, (1, 8))
    padded = torch.cat([ids, torch.zeros(1, 24, dtype=torch.long)], dim=1)
    with torch.no_grad():
        alone, beside = dynamic(input_ids=ids).logits, dynamic(input_ids=padded).logits[:, :8]
    assert not torch.allclose(alone, beside, atol=1e-3)
