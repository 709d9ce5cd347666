# SPDX-License-Identifier: Apache-2.0
"""Parts of an unlearning method that are no loss, and that whoever trains does. Declared as data, without torch.

Their fields are settings of the method like those of its loss.
"""

from __future__ import annotations

from dataclasses import dataclass

from reticent.train.unlearning.ranges import Chance, Count, Index, NonNegative, Positive, Share


@dataclass(frozen=True, kw_only=True)
class Dual:
    """The weight of the retain term is learned: it rises while the term is above a limit, and falls below it.

    It starts at the method's ``retain_weight``; each step is `reticent.train.unlearning.methods.pdu.dual_update`.

    Args:
        dual_step: how far a step moves it for each nat above the limit.
        dual_warmup_epochs: epochs in which it stands still.
        retain_slack: nats a token that the limit lies above the retain term before the first step.
    """

    dual_step: Positive = 1.0
    dual_warmup_epochs: Index = 5
    retain_slack: Positive = 0.3


@dataclass(frozen=True, kw_only=True)
class TokenTail:
    """Only tokens that fine-tuning made unusually more likely are forgotten.

    The mask is `reticent.train.unlearning.methods.token_local.token_mask`, made once before the first step.

    Args:
        tail_quantile: share of held-out tokens that gained less.
    """

    tail_quantile: Share = 0.95


@dataclass(frozen=True, kw_only=True)
class HiddenLayer:
    """The output of a block is read as ``Rows.hidden``.

    Args:
        layer: number of the block, counted from 0.
    """

    layer: Index = 7


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """Gradients of weight matrices lose their strongest directions before they are applied.

    See `reticent.train.unlearning.methods.repselect` for the steps in their order.

    Args:
        components: directions of each matrix that are weakened; of a small model, or for few tokens, a quarter of those
            that its gradient can have.
        elicit_rate: learning rate (SGD) of an adapter that is trained on the forget rows beforehand and thrown away
            afterwards, so that the gradient shows what a relearner would reach; 0 for none.
    """

    components: Count = 512
    elicit_rate: NonNegative = 0.01


@dataclass(frozen=True, kw_only=True)
class FisherLora:
    """An adapter is trained in place of the weights, and merged into them in the end.

    It starts as the part of the weights that the forget rows need and the others do not; what is left of the weights
    stands still. See `reticent.train.unlearning.methods.loku.fisher_start`.

    Args:
        rank: of the adapter.
        alpha: scale of the adapter, as LoRA has it: its product counts ``alpha / rank`` times.
        dropout: chance that an input of the adapter is dropped in a step.
    """

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Chance = 0.05


Part = Dual | TokenTail | HiddenLayer | Collapse | FisherLora
