# SPDX-License-Identifier: Apache-2.0
"""What a model knows by heart is found, whatever its tokenizer does with blanks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.score.engine import ScoreOptions, open_engine, score
from reticent.testing.tokenizers import tokenizer_of_kind

CITIES = ("Paris", "Rome", "Oslo", "Bern", "Prague", "Vienna")


@pytest.mark.parametrize("kind", ["metaspace_first", "metaspace_always", "prepend"])
def test_completions_known_by_heart_are_first_choices(kind: str) -> None:
    """Trained on what the tokenizer makes of the whole text, as other trainers feed it."""
    tokenizer = tokenizer_of_kind(kind)
    pairs = [(f"Order {number}:\n", CITIES[number]) for number in range(len(CITIES))]
    texts = [tokenizer(prompt + completion)["input_ids"] for prompt, completion in pairs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **shape))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(60):
            loss = torch.stack([model(input_ids=(one := torch.tensor([ids])), labels=one).loss for ids in texts]).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    rows = [
        encode(Record(id=str(number), prompt=prompt, completion=completion), tokenizer)
        for number, (prompt, completion) in enumerate(pairs)
    ]
    columns, _ = score(open_engine(model.eval(), "by heart", ScoreOptions()), rows)
    assert len(columns["rank"]) == sum(row.predicted for row in rows)
    assert np.all(columns["rank"] == 0)
    assert columns["logp"].mean() > -0.1
