# SPDX-License-Identifier: Apache-2.0
"""Which families of causal language models can be trained privately, and whether their clipped sums are right.

Every family is a tiny model with random weights, made from its configuration; nothing is downloaded. In each cell a
batch of four records of different lengths goes through what ``make_clipper`` chooses. Norms, and the clipped sums of
each parameter, are held against a loop written here: one record at a time, without padding, plain autograd.

============  ======================================================================================================
outcome       means
============  ======================================================================================================
``ok``        norms and sums agree, in one pass over the batch
``fallback``  they agree, through the exact loop over records, which is slower
``refused``   a named reason, before the first step
``wrong``     norms or sums are off
``crash``     any other exception, or a reason that comes only with the first batch
``not built``  transformers or PEFT cannot make the model, or this loop cannot run it
============  ======================================================================================================

    python benchmarks/dp_families.py --json benchmarks/results/dp_families.json --markdown
    python benchmarks/dp_families.py --only opt falcon
"""

from __future__ import annotations

import argparse
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

RTOL = {None: 1e-3, torch.bfloat16: 0.02}
"""How far a norm, and each parameter's sum (relatively to the whole sum), may be off."""
LENGTHS, VOCABULARY = (11, 3, 7, 6), 61
OUTCOMES = ("ok", "fallback", "refused", "wrong", "crash", "not built")
PAGE = Path(__file__).parents[1] / "docs" / "private_training.md"
START, END = "<!-- families:start -->", "<!-- families:end -->"

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 64}
_BART = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "encoder_layers": 1,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "is_decoder": True,
    "is_encoder_decoder": False,
}
_EXPERTS = {
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "decoder_sparse_step": 1,
}
_MAMBA = {
    "state_size": 8,
    "expand": 2,
    "conv_kernel": 4,
    "num_heads": 4,
    "head_dim": 16,
    "n_groups": 2,
    "chunk_size": 4,
}

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "bamba": {
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_n_groups": 2,
        "mamba_d_state": 8,
        "mamba_chunk_size": 4,
        "attn_layer_indices": [1],
    },
    "bart": _BART,
    "bert": {},
    "bert decoder": {"is_decoder": True},
    "biogpt": {},
    "bloom": {"n_layer": 2, "n_head": 4},
    "codegen": {**_GPT2, "rotary_dim": 4},
    "cohere": {},
    "cohere qk": {"use_qk_norm": True},
    "cohere2": {"head_dim": 8, "sliding_window": 4},
    "ctrl": {"n_embd": 32, "dff": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "deepseek_v3": {
        **_EXPERTS,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "num_key_value_heads": 4,
    },
    "ernie4_5": {"head_dim": 8},
    "exaone4": {"sliding_window": 4},
    "falcon": {},
    "falcon_mamba": {**_MAMBA, "time_step_rank": 4},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4, "window_size": 4},
    "gpt_neox": {},
    "gpt_oss": {**_EXPERTS, "head_dim": 8, "sliding_window": 4},
    "gptj": {**_GPT2, "rotary_dim": 4},
    "granite": {},
    "helium": {"head_dim": 8},
    "jamba": {**_EXPERTS, "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False, "attn_layer_offset": 1},
    "lfm2": {"full_attn_idxs": [1], "block_multiple_of": 16},
    "llama": {},
    "mamba": {**_MAMBA, "time_step_rank": 4},
    "mamba2": _MAMBA,
    "mbart": _BART,
    "mistral": {"sliding_window": 4},
    "mixtral": _EXPERTS,
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmoe": _EXPERTS,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "pegasus": _BART,
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "qwen2": {},
    "qwen2_moe": _EXPERTS,
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {**_EXPERTS, "head_dim": 8},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 4, "block_types": ["recurrent", "attention"]},
    "roberta": {"is_decoder": True},
    "rwkv": {"attention_hidden_size": 32},
    "seed_oss": {"head_dim": 8},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": 4},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    "xglm": {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "causal": True, "n_words": VOCABULARY},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "max_position_embeddings": None},
}
"""Model types and what their configuration needs beside ``SHAPE``. A word behind the type is for people."""

LONG_FAMILIES = ("gpt2", "llama", "gemma3_text", "gpt_neox", "bloom", "opt", "falcon", "cohere qk")


class Mode(NamedTuple):
    """How a family is trained: ``tune(model)`` gives the model that is trained."""

    tune: Callable[[Any], Any]
    autocast: torch.dtype | None = None
    checkpointing: bool = False


class Cell(NamedTuple):
    """What came out, why, and how far the worst norm or sum was off."""

    outcome: str
    why: str = ""
    off: float | None = None


def _full(model: Any) -> Any:
    return model.requires_grad_(True)


def _lora(**more: Any) -> Callable[[Any], Any]:
    from peft import LoraConfig, get_peft_model

    def tune(model: Any) -> Any:
        if more.get("modules_to_save") == "head":
            head = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
            more["modules_to_save"] = [head.split(".")[-1]]
        if more.get("target_modules") == "words":
            words = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
            return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=[words]))
        config = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": "all-linear"} | more
        return get_peft_model(model, LoraConfig(**config))

    return tune


def _peft(kind: str) -> Callable[[Any], Any]:
    from reticent.models.tuning.method import TUNINGS

    params = {} if kind == "ia3" else {"virtual_tokens": 3}
    return lambda model: TUNINGS.get(kind)(model, **params)


SHORT = {"full": Mode(_full), "LoRA": Mode(_lora())}
LONG = {
    "bf16": Mode(_full, autocast=torch.bfloat16),
    "checkpointing": Mode(_full, checkpointing=True),
    "rsLoRA": Mode(_lora(use_rslora=True)),
    "LoRA, head saved": Mode(_lora(modules_to_save="head")),
    "LoRA, biases": Mode(_lora(bias="all")),
    "LoRA, bf16": Mode(_lora(), autocast=torch.bfloat16),
    "DoRA": Mode(_lora(use_dora=True)),
    "LoRA on embeddings": Mode(_lora(target_modules="words")),
    "ia3": Mode(_peft("ia3")),
    "prefix": Mode(_peft("prefix")),
    "prompt": Mode(_peft("prompt")),
}


def build(family: str) -> Any:
    """A tiny model of the family in evaluation mode, without dropout, all weights random."""
    from transformers import AutoConfig, AutoModelForCausalLM, T5ForConditionalGeneration

    kind = family.split()[0]
    known = AutoConfig.for_model(kind)
    shape = {name: value for name, value in SHAPE.items() if hasattr(known, name) or name in known.attribute_map}
    settings = {name: value for name, value in {**shape, **FAMILIES[family]}.items() if value is not None}
    config = AutoConfig.for_model(kind, **settings)
    for name in vars(config):
        if name.endswith(("dropout", "pdrop", "dropout_prob", "dropout_rate")) and isinstance(
            vars(config)[name], float
        ):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    if kind == "t5":
        model = T5ForConditionalGeneration(config)
    else:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _roughen(model.parameters())
    return model.eval()


def _roughen(parameters: Any) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))


def cell(family: str, mode: Mode) -> Cell:
    """One family trained one way."""
    from reticent.core.errors import BadInput
    from reticent.privacy.clip.make import make_clipper
    from reticent.privacy.clip.reference import ReferenceClipper
    from reticent.privacy.refuse import TrainingSetup, violations

    try:
        model = mode.tune(build(family))
        _roughen(p for p in model.parameters() if p.requires_grad)
        if mode.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()
    except Exception as error:  # noqa: BLE001 - the library's own limits are no finding
        return Cell("not built", _first_line(error))
    try:
        found = violations(TrainingSetup(args=SimpleNamespace(), model=model, rows=[list(range(n)) for n in LENGTHS]))
        if found:
            return Cell("refused", f"{found[0].given}: {found[0].why}")
        expected = oracle(model, mode.autocast)
        clip_norm = sorted(norm(one.values()) for one in expected)[len(expected) // 2]
        clipper = make_clipper(model, clip_norm=clip_norm, autocast=mode.autocast)
    except BadInput as error:
        return Cell("refused", f"{error.given}: {error.why}")
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return Cell("crash", f"{type(error).__name__}: {_first_line(error)}")
    try:
        with clipper.attached():
            seen = clipper.accumulate(**batch())
        off = _off(seen.norm.tolist(), clipper.take(), expected, clip_norm, kept=mode.autocast is None)
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return Cell("crash", f"with the first batch, {type(error).__name__}: {_first_line(error)}")
    if not off <= RTOL[mode.autocast]:
        return Cell("wrong", f"off by {off:.2g}", off)
    return Cell("fallback" if isinstance(clipper, ReferenceClipper) else "ok", "", off)


def batch() -> dict[str, Any]:
    """Four records padded to the right, as the clipper is given them; the last one weighs half."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCABULARY, (len(LENGTHS), max(LENGTHS)), generator=draw)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return {
        "inputs": {"input_ids": ids * mask, "attention_mask": mask.long()},
        "labels": ids.where(mask, torch.tensor(-100)),
        "weight": torch.tensor([1.0] * (len(LENGTHS) - 1) + [0.5]),
    }


def oracle(model: Any, autocast: torch.dtype | None) -> list[dict[nn.Parameter, torch.Tensor]]:
    """Each record's gradient, from a pass of its own over its own tokens."""
    given = batch()
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = []
    for row, length in enumerate(LENGTHS):
        ids = given["labels"][row : row + 1, :length]
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        loss = given["weight"][row] * F.cross_entropy(logits[0, -length:-1].float(), ids[0, 1:])
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        zeros = [torch.zeros_like(p) if g is None else g.float() for p, g in zip(parameters, gradients, strict=True)]
        found.append(dict(zip(parameters, zeros, strict=True)))
    return found


def norm(tensors: Any) -> float:
    """L2 norm of all of them together."""
    return math.sqrt(sum(float(one.double().square().sum()) for one in tensors))


def _off(
    norms: list[float],
    sums: Mapping[nn.Parameter, torch.Tensor],
    expected: list[dict[nn.Parameter, torch.Tensor]],
    clip_norm: float,
    *,
    kept: bool,
) -> float:
    """The largest relative deviation of a norm, and of a parameter's sum from the whole sum.

    Under bfloat16 the clipper keeps a little of the bound back, so only directions and norms are compared there.
    """
    own = [norm(one.values()) for one in expected]
    factors = [min(1.0, clip_norm / one) for one in own]
    wanted = {p: sum(f * one[p] for f, one in zip(factors, expected, strict=True)) for p in expected[0]}
    whole = norm(wanted.values())
    worst = max(abs(a / b - 1) for a, b in zip(norms, own, strict=True))
    scale = 1.0 if kept else whole / max(norm(sums.values()), 1e-30)
    return max([worst, *(norm([sums[p] * scale - wanted[p]]) / whole for p in wanted)])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def tables(only: list[str] | None = None) -> dict[str, Any]:
    """All cells and how often each outcome came."""
    import peft
    import transformers

    found: dict[str, Any] = {"versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)}}
    for name, families, modes in (("short", tuple(FAMILIES), SHORT), ("long", LONG_FAMILIES, LONG)):
        chosen = [family for family in families if not only or family in only]
        rows: dict[str, dict[str, Any]] = {}
        for family in chosen:
            rows[family] = {mode: cell(family, how)._asdict() for mode, how in modes.items()}
            print(name, family, {mode: one["outcome"] for mode, one in rows[family].items()}, flush=True)
        counts = Counter(one["outcome"] for row in rows.values() for one in row.values())
        found[name] = {"cells": rows, "counts": {outcome: counts[outcome] for outcome in OUTCOMES}}
    return found


def markdown(found: Mapping[str, Any]) -> str:
    """The tables for people."""
    lines = ["| | ok | exact loop | refused | wrong | crash | not built |", "|---|---|---|---|---|---|---|"]
    for title, part in (
        (f"{len(found['short']['cells'])} families, full and LoRA", "short"),
        ("11 ways over 8", "long"),
    ):
        lines.append(f"| {title} | " + " | ".join(str(found[part]["counts"][o]) for o in OUTCOMES) + " |")
    lines += ["", *_by_outcome("full", found["short"]["cells"]), *_by_outcome("LoRA", found["short"]["cells"])]
    modes = list(LONG)
    lines += ["", "| | " + " | ".join(modes) + " |", "|---" * (len(modes) + 1) + "|"]
    for family, row in found["long"]["cells"].items():
        lines.append(f"| {family} | " + " | ".join(row[mode]["outcome"] for mode in modes) + " |")
    return "\n".join(line.replace("fallback", "exact loop") for line in lines)


def _by_outcome(mode: str, cells: Mapping[str, Any]) -> list[str]:
    lines = [f"| {mode}, all linear layers | families |" if mode == "LoRA" else f"| {mode} | families |", "|---|---|"]
    for outcome in OUTCOMES:
        names = [family for family, row in cells.items() if row[mode]["outcome"] == outcome]
        if names:
            lines.append(f"| {outcome} | {', '.join(names)} |")
    return [*lines, ""]


def into_page(found: Mapping[str, Any]) -> None:
    """Put the tables between the markers of the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{START}\n\n{markdown(found)}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write all cells")
    parser.add_argument("--markdown", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument("--only", nargs="*", help="families")
    chosen = parser.parse_args()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    warnings.filterwarnings("ignore")
    found = tables(chosen.only)
    print(json.dumps({part: found[part]["counts"] for part in ("short", "long")}))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if chosen.markdown:
        into_page(found)


if __name__ == "__main__":
    main()
