# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.score import divergence as module
from reticent.score.divergence import divergence
from reticent.testing.tiny import save_tiny

RECORDS = [
    Record(id="a", text="the order of the day"),
    Record(id="b", prompt="a question to the one", completion="and an answer"),
    Record(id="c", text="!"),
    Record(id="d", text="another text that is somewhat longer than the others"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    return [save_tiny(root / str(seed), seed=seed) for seed in (0, 1)]


def slow(target: object, base: object, record: Record, tokenizer: object) -> tuple[float, int]:
    """Whole logits, one record, float64, the definition."""
    row = encode(record, tokenizer)
    ids = torch.tensor(row.token_id)[None]
    with torch.no_grad():
        p, q = (model(input_ids=ids).logits[0].double().log_softmax(-1) for model in (target, base))
    each = (p.exp() * (p - q)).sum(-1)[:-1]
    kept = torch.tensor(row.trained[1:])
    return float(each[kept].sum()), int(kept.sum())


@pytest.mark.parametrize("positions", [3, 256])
def test_it_is_the_definition(folders: list[Path], positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POSITIONS", positions)
    target, base = (load(str(folder), dtype="float32") for folder in folders)
    found = divergence(target, base, RECORDS)
    expected = [slow(target.model, base.model, record, base.tokenizer) for record in RECORDS]
    np.testing.assert_allclose(found.kl, [kl for kl, _ in expected], rtol=1e-4)
    assert found.tokens.tolist() == [tokens for _, tokens in expected]
    assert (found.kl[found.tokens > 0] > 0).all()


def test_a_model_does_not_diverge_from_itself(folders: list[Path]) -> None:
    one = load(str(folders[0]), dtype="float32")
    np.testing.assert_allclose(divergence(one, one, RECORDS, max_tokens=6).kl, 0, atol=1e-6)


def test_models_of_other_vocabularies_are_refused(folders: list[Path], tmp_path: Path) -> None:
    other = load(str(save_tiny(tmp_path / "other", vocab_size=600)), dtype="float32")
    with pytest.raises(BadInput, match="tokens"):
        divergence(other, load(str(folders[0]), dtype="float32"), RECORDS)
