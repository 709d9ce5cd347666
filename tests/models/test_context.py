# SPDX-License-Identifier: Apache-2.0
"""What a model's configuration calls its limit, against what the model does, and where positions change."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from reticent.models.context import Positions, context_length, positions_of
from reticent.models.tuning.method import TUNINGS
from reticent.testing.families import VOCABULARY, tiny_family
from reticent.testing.tiny import CONTEXT, tiny_model

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 6.0, 8.0, 10.0],
    "original_max_position_embeddings": 16,
}


def read(model, length):
    ids = torch.arange(length)[None] % (VOCABULARY - 4) + 3
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize(
    ("family", "limit", "settings"),
    [
        ("gpt2", 40, {"n_positions": 40}),
        ("mpt", 40, {"max_seq_len": 40}),
        ("opt", 40, {"max_position_embeddings": 40}),
        ("roberta", 38, {"max_position_embeddings": 40}),  # two rows of the table are kept for padding
        ("biogpt", 40, {"max_position_embeddings": 40}),
        ("gptj", 40, {"n_positions": 40}),
        ("bart", 40, {"max_position_embeddings": 40}),
    ],
)
def test_the_limit_is_the_last_length_that_the_model_reads(family, limit, settings):
    model = tiny_family(family, **settings)
    assert context_length(model) == limit
    assert torch.isfinite(read(model, limit)).all()
    with pytest.raises((IndexError, RuntimeError)):
        read(model, limit + 1)


def test_limits_that_are_no_wall_are_read_too():
    assert context_length(tiny_model("llama")) == CONTEXT
    assert context_length(tiny_family("rwkv", context_length=48)) == 48
    assert context_length(tiny_family("bloom")) is None
    assert context_length(tiny_family("bloom", seq_length=48)) == 48  # so its configurations on the hub
    assert context_length(tiny_family("mamba")) is None


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_virtual_tokens_are_taken_off(method):
    model = TUNINGS.get(method)(tiny_family("gpt2", n_positions=40), virtual_tokens=5)
    assert context_length(model) == 35
    with torch.inference_mode():
        assert model(input_ids=torch.ones(1, 35, dtype=torch.long)).logits.isfinite().all()
        with pytest.raises(IndexError):
            model(input_ids=torch.ones(1, 36, dtype=torch.long))


def of(**settings):
    """A configuration, and as much of a model as is looked at."""
    return SimpleNamespace(config=SimpleNamespace(max_position_embeddings=256, **settings))


@pytest.mark.parametrize(
    ("settings", "borders"),
    [
        ({}, ()),
        ({"rope_parameters": None}, ()),
        ({"rope_parameters": {"rope_type": "default"}}, ()),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 16}}, ()),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, ()),  # changes beyond what is read at once
        ({"rope_parameters": LONGROPE}, (16,)),
        ({"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 16}, (16,)),
        ({"rope_parameters": {"rope_type": "longrope"}}, (256,)),
        ({"index_topk": 16}, ()),
        (
            {
                "rope_parameters": {
                    "full_attention": {**LONGROPE, "original_max_position_embeddings": 64},
                    "sliding_attention": LONGROPE,
                    "other": {"rope_type": "default"},
                }
            },
            (16, 64),
        ),
    ],
)
def test_borders_of_positions(settings, borders):
    assert positions_of(of(**settings)).borders == borders


def test_virtual_tokens_move_the_border():
    model = tiny_family("phi3", rope_parameters=LONGROPE, original_max_position_embeddings=16)
    assert positions_of(model).borders == (16,)
    tuned = TUNINGS.get("prompt")(model, virtual_tokens=5)
    assert positions_of(tuned).borders == (11,)


def test_a_border_is_where_logits_begin_to_depend_on_what_follows():
    """Against the model itself: the first 10 tokens of texts of every length."""
    model = tiny_family("llama", rope_parameters=LONGROPE)
    positions = positions_of(model)
    regimes: dict[int, list[torch.Tensor]] = {}
    for length in range(10, 24):
        regimes.setdefault(positions.regime(length), []).append(read(model, length)[0, :10])
    assert [len(found) for found in regimes.values()] == [7, 7]
    for found in regimes.values():
        assert all(torch.allclose(one, found[0], atol=1e-5) for one in found)
    assert not torch.allclose(regimes[0][0], regimes[1][0], atol=0.1)


def test_regimes_and_stretches():
    positions = Positions(borders=(16, 64))
    assert [positions.regime(read) for read in (1, 16, 17, 64, 65)] == [0, 0, 1, 1, 2]
    assert positions.stretch(10, None) == (0, 16)
    assert positions.stretch(24, None) == (16, 64)
    assert positions.stretch(60, None) == (64, 124)
    assert positions.stretch(60, 100) == (16, 64)  # none has so many, this one the most
    assert Positions().stretch(24, 8) == (0, 8)
    assert Positions(borders=(16,)).stretch(4, 16) == (0, 16)
    each = Positions(borders=(16,), each_beyond=20)
    assert len({each.regime(read) for read in (3, 16, 17, 20, 21, 22)}) == 4
    assert [each.next_border(read) for read in (0, 16, 17, 20, 21)] == [16, 16, 20, 20, 21]
    assert each.stretch(24, None) == (0, 16)
    assert Positions(each_beyond=0).next_border(0) == 0
    assert Positions(each_beyond=0).stretch(24, None) == (0, 1)
