# SPDX-License-Identifier: Apache-2.0
"""Checks that the rows of a flattened activation are still those of the batch, in order.

Some decoders (OPT's) flatten hidden states ``[B, T, D]`` to ``[B·T, D]`` before they go through linear layers. Each
B-th part of the rows then belongs to one record, and gradients can be taken apart as usual. Experts of a mixture read
``[N, D]`` too, where N is how many tokens were sent to them: any record's, in any order, and now and then N = B·T.

So the number of rows says nothing. What does is where they come from: autograd's graph is followed backwards through
operations that keep every row in its place, until a view of something whose first dimension is the batch. Whatever else
is met on the way (an index, a gather, a transposition, an operation that is not known here) means: not certain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from reticent.core.errors import BadInput
from reticent.privacy.clip.tape import Tape

_VIEWS = frozenset({"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"})
"""Row-major views; they remember the sizes of what they were made from."""

_EACH_NUMBER = frozenset(
    """AddBackward0 SubBackward0 MulBackward0 DivBackward0 NegBackward0 PowBackward0 SqrtBackward0 RsqrtBackward0
    ExpBackward0 SigmoidBackward0 TanhBackward0 ErfBackward0 ReluBackward0 LeakyReluBackward0 EluBackward0 SiluBackward0
    MishBackward0 GeluBackward0 SoftplusBackward0 HardtanhBackward0 HardswishBackward0 ClampBackward0 ClampMinBackward0
    NativeDropoutBackward0 ToCopyBackward0 CloneBackward0""".split()  # noqa: SIM905 - twenty-six lines otherwise
)
"""Operations on each number by itself. Those of two tensors line rows up with rows."""

_ROW_BY_ROW = {"MmBackward0": 0, "AddmmBackward0": 1, "NativeLayerNormBackward0": 0}
"""Products ``X W`` and norms of each row: which operand has the rows. The others must be parameters."""

_LEAF = "torch::autograd::AccumulateGrad"
_TRANSPOSED = frozenset({"TBackward0", "TransposeBackward0", "ToCopyBackward0"})
_STEPS = 200
"""Operations that are looked at; between a flattening and the layers that read it there are few."""


def run_by_row(
    forward: Callable[..., torch.Tensor], module: nn.Module, tape: Tape, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """A layer rule's forward pass, of which the rule sees ``[B, N / B, D]`` where the layer was given ``[N, D]``.

    Args:
        forward: of the rule.
        module: the layer.
        tape: of the micro-batch.
        args, kwargs: what the layer was called with.

    Raises:
        BadInput: the rows are not certainly those of the batch, in order.
    """
    x = args[0] if args else None
    if not isinstance(x, torch.Tensor) or x.dim() != 2 or not x.is_floating_point():
        return forward(module, tape, *args, **kwargs)
    if not torch.is_grad_enabled():
        # A checkpointed block, first time round: it runs again with gradients before anything is recorded.
        plain: torch.Tensor = type(module).forward(module, *args, **kwargs)
        return plain
    if not in_order(x, tape.rows):
        raise BadInput(
            f"{type(module).__name__} that reads {len(x)} rows, in a batch of {tape.rows}",
            "cannot tell which record they are of (experts of a mixture pick tokens of all records)",
            'Train without it (target_modules), or by the slow exact loop: PrivateSpeed(impl="reference").',
        )
    return forward(module, tape, x.view(tape.rows, -1, x.shape[-1]), *args[1:], **kwargs).flatten(0, 1)


def in_order(x: torch.Tensor, rows: int) -> bool:
    """True if row ``i`` of ``x [N, D]`` certainly belongs to row ``i // (N / rows)`` of the batch.

    Args:
        x: with the graph that it came from. One that needs no gradient has none, and nothing is certain.
        rows: B, rows of the batch.
    """
    if x.dim() != 2 or len(x) % rows or x.grad_fn is None:
        return False
    ahead, seen = [x.grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        mark = None if len(seen) > _STEPS else _behind(node, rows)
        if mark is None:
            return False
        ahead += mark
    return True


def _behind(node: Any, rows: int) -> list[Any] | None:
    """The nodes to follow next: none where rows are certain, None where they are not."""
    name, sources = node.name(), [source for source, _ in node.next_functions]
    if name in _VIEWS:
        # A view of [B, T, ...] as [N, D], N a multiple of B, gives each record N / B rows in turn; so does one of
        # [M, D], if the M are in order and a multiple of B: that B rows are the batch, their number does not say.
        size = node._saved_self_sym_sizes
        if len(size) == 2:
            return sources if size[0] % rows == 0 and sources[0] is not None else None
        return [] if size[0] == rows else None
    if name in _ROW_BY_ROW:
        at = _ROW_BY_ROW[name]
        if name == "NativeLayerNormBackward0" and len(node._saved_normalized_shape) != 1:
            return None
        others = [source for place, source in enumerate(sources) if place != at]
        return [sources[at]] if sources[at] is not None and all(map(_is_parameter, others)) else None
    if name in _EACH_NUMBER:
        return [source for source in sources if not _is_parameter(source)] or None
    return None


def _is_parameter(node: Any) -> bool:
    """A leaf, such as a parameter or its transpose, or what needs no gradient."""
    while node is not None and node.name() in _TRANSPOSED:
        ((node, _),) = node.next_functions
    return node is None or node.name() == _LEAF
