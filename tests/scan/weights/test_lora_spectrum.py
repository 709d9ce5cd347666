# SPDX-License-Identifier: Apache-2.0
"""Spectra from the factors of an adapter against those of the dense product, and what is refused."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reticent.core.errors import BadInput
from reticent.scan.weights.lora_factors import CONFIG, WEIGHTS, LoraFactors, lora_factors, read_settings
from reticent.scan.weights.lora_spectrum import fourth_powers, fourth_powers_by_pairs, lora_spectra, product_spectrum
from reticent.scan.weights.spectrum import STATISTICS, ModuleSpectrum, norm_spread, spectra_features
from reticent.testing.peft_zoo import CONFIGS, save_peft_adapter, save_peft_base

PLAIN = ("lora", "lora_some", "lora_gaussian", "lora_rslora", "lora_ranks", "lora_layers", "lora_excluded")
"""Adapters whose change is a product and nothing else."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_peft_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_peft_adapter(base, tmp_path_factory.mktemp("adapter"), "lora")


def naive(module: str, dense: torch.Tensor) -> ModuleSpectrum:
    """The spectrum by its definition."""
    wide = dense.double()
    return ModuleSpectrum(
        module=module,
        shape=(wide.shape[0], wide.shape[1]),
        singular=torch.linalg.svdvals(wide).numpy(),
        square=float((wide**2).sum()),
        fourth=float((wide**4).sum()),
    )


@pytest.mark.parametrize(("out", "rank", "wide"), [(40, 4, 24), (24, 4, 40), (5, 8, 6), (300, 2, 300), (7, 1, 9)])
def test_a_product_has_the_spectrum_of_the_dense_matrix(out: int, rank: int, wide: int) -> None:
    torch.manual_seed(out)
    factors = LoraFactors(module="h.0.mlp", a=torch.randn(rank, wide), b=torch.randn(out, rank), scale=1.7)
    fast = product_spectrum(factors)
    slow = naive("h.0.mlp", factors.scale * factors.b.double() @ factors.a.double())
    kept = min(out, rank, wide)
    np.testing.assert_allclose(fast.singular[:kept], slow.singular[:kept], rtol=1e-6)
    assert fast.singular[kept:] == pytest.approx(0, abs=1e-5)
    for name in ("sigma1", "top_share", "frobenius", "stable_rank", "kurtosis"):
        assert STATISTICS[name](fast) == pytest.approx(STATISTICS[name](slow), rel=1e-5), name


def test_both_ways_to_the_fourth_moment_agree_and_the_cheaper_is_taken() -> None:
    torch.manual_seed(0)
    for out, rank, wide in ((30, 4, 50), (600, 2, 700), (5, 9, 3)):
        b, a = torch.randn(out, rank), torch.randn(rank, wide)
        truth = float(((b.double() @ a.double()) ** 4).sum())
        assert fourth_powers(b, a) == pytest.approx(truth, rel=1e-5)
        assert fourth_powers_by_pairs(b, a) == pytest.approx(truth, rel=1e-9)


def test_statistics_of_known_spectra() -> None:
    identity = naive("h.0.attn.q_proj", torch.eye(4))
    single = naive("h.0.attn.q_proj", torch.ones(3, 5))
    nothing = naive("h.0.attn.q_proj", torch.zeros(3, 5))
    assert (identity.top_share, identity.stable_rank, identity.kurtosis) == (0.25, 4.0, 4.0)
    assert identity.entropy == pytest.approx(1)
    assert single.top_share == pytest.approx(1)
    assert single.stable_rank == pytest.approx(1)
    assert single.kurtosis == pytest.approx(1)
    assert single.entropy == pytest.approx(0, abs=1e-6)
    assert single.normed_frobenius == pytest.approx(1)
    assert [STATISTICS[name](nothing) for name in STATISTICS] == [0.0] * len(STATISTICS)
    gauss = naive("x", torch.randn(400, 400, generator=torch.Generator().manual_seed(0)))
    assert gauss.kurtosis == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("name", PLAIN)
def test_an_adapter_has_the_spectra_of_what_peft_adds_to_its_base(base: Path, tmp_path: Path, name: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = save_peft_adapter(base, tmp_path / name, name)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    merged = PeftModel.from_pretrained(plain, str(folder)).merge_and_unload()
    after = merged.state_dict()
    spectra = lora_spectra(folder)
    changed = {
        key.removesuffix(".weight") for key in before if not torch.equal(before[key], after[key]) and "embed" not in key
    }
    assert {spectrum.module for spectrum in spectra} == changed
    for spectrum in spectra:
        key = f"{spectrum.module}.weight"
        slow = naive(spectrum.module, after[key].double() - before[key].double())
        assert spectrum.sigma1 == pytest.approx(slow.sigma1, rel=1e-3)
        assert spectrum.frobenius == pytest.approx(slow.frobenius, rel=1e-3)
        assert spectrum.kurtosis == pytest.approx(slow.kurtosis, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora_dora", "DoRA"),
        ("lora_head", "lm_head.base_layer"),
        ("dora_bias_all", "DoRA"),
        ("lora_saved_modules", "modules_to_save"),
        ("lora_tokens", "trainable_token_indices"),
        ("lora_own_bias", "lora_bias"),
        ("lora_parameters", "target_parameters"),
        ("lora_bias_all", "bias"),
        ("lora_pissa", "pissa"),
        ("lora_olora", "olora"),
        ("lora_replication", "layer_replication"),
        ("ia3", "IA3"),
        ("prompt", "PROMPT_TUNING"),
        ("prefix", "PREFIX_TUNING"),
        ("loha", "LOHA"),
        ("oft", "OFT"),
        ("vera", "VERA"),
    ],
)
def test_other_adapters_are_refused_by_name(base: Path, tmp_path: Path, name: str, words: str) -> None:
    assert name in CONFIGS
    folder = save_peft_adapter(base, tmp_path / name, name)
    with pytest.raises(BadInput, match=words):
        lora_spectra(folder)


def changed_copy(adapter: Path, folder: Path, **settings: object) -> Path:
    shutil.copytree(adapter, folder)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | settings))
    return folder


def rewritten(folder: Path, change: dict[str, torch.Tensor], without: tuple[str, ...] = ()) -> Path:
    weights = load_file(folder / WEIGHTS) | change
    save_file({name: value for name, value in weights.items() if name not in without}, folder / WEIGHTS)
    return folder


def test_a_hidden_weight_beside_the_products_is_refused(adapter: Path, tmp_path: Path) -> None:
    for number, key in enumerate(
        (
            "base_model.model.lm_head.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
        )
    ):
        folder = rewritten(changed_copy(adapter, tmp_path / str(number)), {key: torch.ones(4)})
        with pytest.raises(BadInput, match="beside the products"):
            lora_spectra(folder)


def test_broken_adapters_are_refused_and_say_where(adapter: Path, tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    shape = load_file(adapter / WEIGHTS)[name].shape
    changes: dict[str, tuple[dict[str, object], dict[str, torch.Tensor], tuple[str, ...], str]] = {
        "half": ({}, {}, (name,), "only one of two factors"),
        "shapes": ({}, {name: torch.ones(3, 5)}, (), "shapes"),
        "nan": ({}, {name: torch.full(shape, torch.nan)}, (), "not finite"),
        "whole": ({}, {name: torch.ones(shape, dtype=torch.int8)}, (), "whole numbers"),
        "conv": ({}, {name: torch.ones(*shape, 1, 1)}, (), "convolutions"),
        "rank": ({"r": 8}, {}, (), "rank 4, and its configuration says 8"),
        "no_rank": ({"r": None}, {}, (), "no rank"),
        "alpha": ({"lora_alpha": "nan"}, {}, (), "alpha nan"),
        "pattern": ({"rank_pattern": {"(a+)+$": 4}}, {}, (), "pattern"),
    }
    for case, (settings, change, without, words) in changes.items():
        folder = rewritten(changed_copy(adapter, tmp_path / case, **settings), change, without)
        with pytest.raises(BadInput, match=words):
            lora_spectra(folder)
    folder = changed_copy(adapter, tmp_path / "cut")
    (folder / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(BadInput, match="no whole safetensors file"):
        lora_spectra(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(BadInput, match="has no adapter_model"):
        lora_spectra(folder)
    for text in ("[]", "{", "[" * 100_000):
        (folder / CONFIG).write_text(text)
        with pytest.raises(BadInput, match="broken"):
            read_settings(folder)
    with pytest.raises(BadInput, match="is no adapter"):
        read_settings(tmp_path / "nowhere")


def test_features_say_which_modules_and_spread_sees_one_module(adapter: Path) -> None:
    spectra = lora_spectra(adapter)
    features = spectra_features(spectra)
    assert "q_proj: top_share" in features.names
    assert "down_proj: spread of frobenius over layers" in features.names
    assert len(features.names) == 2 * len(STATISTICS) * len({spectrum.module.split(".")[-1] for spectrum in spectra})
    factors = list(lora_factors(adapter))
    even = [product_spectrum(module) for module in factors]
    first = factors[0]
    louder = LoraFactors(module=first.module, a=first.a, b=10 * first.b, scale=first.scale)
    assert norm_spread([product_spectrum(louder), *even[1:]]) > 2 * norm_spread(even)


def test_an_adapter_of_five_million_weights_takes_less_than_a_second(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"q_proj": (576, 576), "k_proj": (192, 576), "v_proj": (192, 576), "o_proj": (576, 576)}
    shapes |= {"gate_proj": (1536, 576), "up_proj": (1536, 576), "down_proj": (576, 1536)}
    weights = {}
    for layer in range(30):
        for name, (out, wide) in shapes.items():
            module = f"base_model.model.model.layers.{layer}.x.{name}"
            weights[f"{module}.lora_A.weight"] = torch.randn(16, wide, generator=generator)
            weights[f"{module}.lora_B.weight"] = torch.randn(out, 16, generator=generator)
    assert sum(value.numel() for value in weights.values()) > 4_800_000
    save_file(weights, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 16, "lora_alpha": 32}))
    start = time.process_time()  # other processes of the machine do not count
    assert len(lora_spectra(tmp_path)) == 210
    assert time.process_time() - start < 1.0
