# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch import nn

from reticent.train.dropout import keyed_dropout

KEY, CPU = bytes(range(32)), torch.device("cpu")


def mask(key: bytes = KEY, part: str = "a", step: int = 0, process: int = 0) -> torch.Tensor:
    with keyed_dropout(key, part, step, process, CPU):
        return nn.Dropout(0.5)(torch.ones(256))


def test_masks_follow_from_all_of_key_part_step_and_process() -> None:
    torch.manual_seed(1)
    first = mask()
    torch.manual_seed(2)
    assert torch.equal(mask(), first)
    others = [mask(bytes(32)), mask(part="b"), mask(step=1), mask(process=1)]
    assert all(not torch.equal(first, other) for other in others)


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    mask()
    assert torch.equal(torch.rand(4), expected)
