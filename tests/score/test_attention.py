# SPDX-License-Identifier: Apache-2.0
"""Plain attention gives what the fused one gives, only where it gains, and leaves the model as it was."""

from __future__ import annotations

import pytest
import torch

from reticent.score.attention import LONGEST, gains_from_plain, plain_attention
from reticent.score.forward import open_forward
from reticent.testing.tiny import tiny_model


@pytest.fixture
def half():
    return tiny_model().to(torch.bfloat16)


def logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=ids).logits.float()


def test_it_is_no_further_from_float32_than_the_fused_one(half):
    """Three ways: the truth in float32, and both attentions in bfloat16."""
    ids = torch.randint(0, 250, (3, 64), generator=torch.Generator().manual_seed(0))
    truth = logits(tiny_model(), ids)
    fused = (logits(half, ids) - truth).abs().mean()
    with plain_attention(half):
        plain = (logits(half, ids) - truth).abs().mean()
    assert plain <= 1.2 * fused


def test_the_model_is_left_as_it_was(half):
    before = half.config._attn_implementation
    with pytest.raises(RuntimeError), plain_attention(half):
        assert half.config._attn_implementation == "eager"
        raise RuntimeError
    assert half.config._attn_implementation == before == "sdpa"


def test_only_bfloat16_on_a_cpu_and_short_texts_use_it(half):
    assert gains_from_plain(half)
    assert not gains_from_plain(tiny_model())
    forward = open_forward(half, "tiny")
    assert forward.plain
    with forward.attention(LONGEST):
        assert half.config._attn_implementation == "eager"
    with forward.attention(LONGEST + 1):
        assert half.config._attn_implementation == "sdpa"


def test_a_model_that_answers_otherwise_with_it_keeps_its_own(half, monkeypatch):
    own = type(half).forward

    def other(self, *args, **kwargs):
        out = own(self, *args, **kwargs)
        if self.config._attn_implementation == "eager":
            out.logits = out.logits * 1.5
        return out

    monkeypatch.setattr(type(half), "forward", other)
    assert not open_forward(half, "tiny").plain
