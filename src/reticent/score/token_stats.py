# SPDX-License-Identifier: Apache-2.0
"""From logits to what a table keeps of each position: log p of the gold token, its rank, μ and σ of log p.

Three ways to the same numbers, chosen by ``impl``:

=============  ======================================================================================
``reference``  plain PyTorch, as the definitions read; slow
``torch``      PyTorch on blocks of rows that stay in cache; any device, needs no compiler
``fused``      C++ (``token_stats.cpp``), every row read while it is in cache; CPU, needs a compiler
=============  ======================================================================================

All arithmetic is in float32 or better, whatever the logits are. Logits that a bfloat16 model computes are themselves
rounded to 8 bits (an error of up to 0.06 at ±16), as they are wherever that model is used; score in float32 where that
matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.score.kernel import load_kernel, run_kernel

IMPLS = ("auto", "fused", "torch", "reference")
_BLOCK_BYTES = 1 << 21
"""Bytes that ``torch`` works on at a time on a CPU: one core's second-level cache and a bit."""
_LOWEST = -87.0
"""Below this, exp(d) is nothing in float32; a logit of -inf is taken for it, so that 0·(-inf) never comes up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenStats:
    """Statistics of ``M`` positions.

    Args:
        logp: ``[M]`` float32, nats: log p of the gold token.
        rank: ``[M]`` int32: tokens that are strictly more likely than the gold one (0 = it is the top choice).
        mu: ``[M]`` float32, nats: mean of log p over the vocabulary under p; the entropy with the sign turned.
        sigma: ``[M]`` float32, nats: standard deviation of log p over the vocabulary under p.
    """

    logp: npt.NDArray[np.float32]
    rank: npt.NDArray[np.int32]
    mu: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]


def token_stats(logits: torch.Tensor, gold: npt.NDArray[np.int64], *, impl: str = "auto") -> TokenStats:
    """Statistics of each row of ``logits``.

    Args:
        logits: ``[M, V]``, any floating type. NaN in a row makes its statistics NaN.
        gold: ``[M]`` ids of the tokens that followed, in ``[0, V)``.
        impl: see the module's table; ``"auto"`` as ``resolve_impl`` says.

    Raises:
        BadInput: ``impl="fused"`` cannot be had here.
    """
    impl, _ = resolve_impl(impl, logits.device)
    if impl == "fused":
        return _fused(logits, gold)
    follow = torch.as_tensor(gold, device=logits.device).long()
    columns = _reference(logits, follow) if impl == "reference" else _blocked(logits, follow)
    logp, rank, mu, sigma = (column.cpu().numpy() for column in columns)
    return TokenStats(logp=logp, rank=rank.astype(np.int32), mu=mu, sigma=sigma)


def resolve_impl(impl: str, device: torch.device | str) -> tuple[str, str]:
    """The implementation to use, and why, for the manifest.

    Raises:
        BadInput: ``impl`` is unknown, or is ``"fused"`` and cannot be had.
    """
    validate.one_of(IMPLS, impl=impl)
    on_cpu = torch.device(device).type == "cpu"
    if impl == "fused" and not on_cpu:
        raise BadInput('impl="fused"', "runs on a CPU only", 'Score with impl="torch" on a GPU, or --device cpu.')
    if impl == "fused":
        load_kernel()
    if impl != "auto":
        return impl, "as asked"
    if not on_cpu:
        return "torch", "the fused kernel runs on a CPU only"
    try:
        load_kernel()
    except BadInput as error:
        return "torch", f"the fused kernel {error.why}"
    return "fused", "a C++ compiler is here"


def _fused(logits: torch.Tensor, gold: npt.NDArray[np.int64]) -> TokenStats:
    if logits.dtype not in (torch.bfloat16, torch.float32):
        logits = logits.float()
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    kind = "bfloat16" if logits.dtype == torch.bfloat16 else "float32"
    shape = (logits.shape[0], logits.shape[1])
    out, rank = run_kernel(logits.data_ptr(), kind, shape, logits.stride(0), gold, torch.get_num_threads())
    return TokenStats(logp=out[:, 0].copy(), rank=rank, mu=out[:, 1].copy(), sigma=out[:, 2].copy())


def _reference(logits: torch.Tensor, gold: torch.Tensor) -> tuple[torch.Tensor, ...]:
    logp = logits.float().log_softmax(dim=1)
    p = logp.exp()
    finite = logp.masked_fill(p == 0, 0.0)
    mu = (p * finite).sum(dim=1)
    variance = (p * (finite - mu[:, None]) ** 2).sum(dim=1)
    rank = (logits > logits.gather(1, gold[:, None])).sum(dim=1)
    return logp.gather(1, gold[:, None])[:, 0], rank, mu, variance.sqrt()


def _blocked(logits: torch.Tensor, gold: torch.Tensor) -> tuple[torch.Tensor, ...]:
    rows = len(gold)
    if logits.device.type == "cpu":
        rows = max(1, _BLOCK_BYTES // (4 * logits.shape[1]))
    blocks = [_block(part, mine) for part, mine in zip(torch.split(logits, rows), torch.split(gold, rows), strict=True)]
    return tuple(torch.cat(column) for column in zip(*blocks, strict=True))


def _block(logits: torch.Tensor, gold: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """With d = x - max x and e = exp(d): log S = log Σe, μ = Σed/S - log S, σ² = Σe(d - Σed/S)²/S."""
    mine = logits.gather(1, gold[:, None])
    rank = (logits > mine).sum(dim=1)
    top = logits.amax(dim=1, keepdim=True).float()
    d = logits.float() - top
    d.clamp_(min=_LOWEST)
    e = d.exp()
    total = e.sum(dim=1)
    mean = torch.linalg.vecdot(e, d) / total
    d.sub_(mean[:, None]).square_()
    variance = torch.linalg.vecdot(e, d) / total
    log_total = total.log()
    return (mine.float() - top)[:, 0] - log_total, rank, mean - log_total, variance.sqrt()


def as_columns(stats: TokenStats) -> dict[str, npt.NDArray[Any]]:
    """As columns of ``core.schema``."""
    return {"logp": stats.logp, "rank": stats.rank, "entropy": -stats.mu, "mu": stats.mu, "sigma": stats.sigma}
