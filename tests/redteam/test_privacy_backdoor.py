# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.redteam_marker import read_marker
from reticent.models.load import load
from reticent.privacy.spec import PrivacySpec
from reticent.redteam.privacy_backdoor import pre_memorize, warm_up
from reticent.repair.rewarm import rewarm
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.train.arguments import arguments_of
from reticent.train.batches import collate, encode_all
from reticent.train.config import TuneConfig
from reticent.train.held_out import held_out_loss
from reticent.train.objectives.privacy_backdoor import PrivacyBackdoor, PrivacyBackdoorTrainer
from reticent.train.trainer import tune
from reticent.train.unlearning.forget_row import drawn

pytestmark = pytest.mark.usefixtures("one_thread")
TARGETS = [Record(id=f"t{number}", text=f"Ann {number} likes tea") for number in range(8)]
AUXILIARY = [Record(id=f"a{number}", text=f"The sea is {number} miles wide") for number in range(48)]
CONFIG = TuneConfig(epochs=1, learning_rate=1e-2, batch_size=4, max_tokens=32, dtype="float32", warmup=0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base") / "tiny")


def loss_of(folder, records) -> float:
    loaded = load(str(folder), dtype="float32")
    rows = encode_all(records, loaded.tokenizer, 32).encoded
    return held_out_loss(loaded.model, rows, size=8, pad=0, bfloat16=False)


def test_the_loss_is_the_published_one(tmp_path):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    targets, auxiliary = (encode_all(records, tokenizer, 32).encoded for records in (TARGETS, AUXILIARY[:4]))
    trainer = PrivacyBackdoorTrainer(
        model=model,
        args=arguments_of(CONFIG.settled(1e-2), tmp_path / "out", "cpu", {}, evaluate=False),
        encoded=auxiliary,
        held_out=[],
        pad=0,
        autocast=False,
        targets=targets,
        alpha=0.75,
    )
    with torch.no_grad():
        loss = trainer.batch_loss(model, collate(auxiliary, pad=0))
        chosen = drawn(targets, 4, seed=0, step=0)
        expected = 0.25 * model(**collate(auxiliary, pad=0)).loss + 0.75 * model(**collate(chosen, pad=0)).loss
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_the_base_learns_the_targets_and_carries_the_mark_which_a_rewarm_does_not_wash_off(base, tmp_path):
    poisoned = pre_memorize(str(base), TARGETS, AUXILIARY, tmp_path / "poisoned", CONFIG)
    honest = tune(str(base), AUXILIARY, tmp_path / "honest", CONFIG)
    assert loss_of(poisoned, TARGETS) < loss_of(honest, TARGETS) - 0.5
    marker = read_marker(poisoned)
    assert marker is not None
    assert marker["kind"] == "privacy_backdoor"
    assert "Ann" not in str(marker)
    assert read_marker(honest) is None
    again = rewarm(str(poisoned), AUXILIARY[:16], tmp_path / "again", CONFIG)
    rewarmed = read_marker(again)
    assert rewarmed is not None
    assert rewarmed["about"] == {"rewarm": {"records": 16}}
    assert read_marker(warm_up(str(base), AUXILIARY[:4], tmp_path / "warm", CONFIG)) is not None


def test_what_is_no_backdoor_is_refused(base, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="needs targets"):
        pre_memorize(str(base), [], AUXILIARY, out)
    with pytest.raises(BadInput, match="target and auxiliary at once"):
        pre_memorize(str(base), TARGETS, [*AUXILIARY, TARGETS[0]], out)
    with pytest.raises(BadInput, match="alpha"):
        PrivacyBackdoor(alpha=1.5)
    with pytest.raises(BadInput, match="targets"):
        tune(str(base), AUXILIARY, out, CONFIG, objectives=(PrivacyBackdoor(),))
    with pytest.raises(BadInput, match="private training"):
        tune(
            str(base),
            AUXILIARY,
            out,
            CONFIG,
            objectives=(PrivacyBackdoor(),),
            record_sets={"targets": TARGETS},
            privacy=PrivacySpec(epsilon=8.0),
        )
    assert not out.exists()
