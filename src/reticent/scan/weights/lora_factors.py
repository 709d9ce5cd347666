# SPDX-License-Identifier: Apache-2.0
"""The factors of a LoRA adapter, read from its file module by module. Nothing but numbers is read.

Adapters whose change of the weights is not ``scale · B A`` and nothing else are refused by name: their spectrum would
be that of a part only, and the rest could hold anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reticent.core.errors import BadInput

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.(?!weight$)[^.]+)?"
    r"(?:\.weight)?"
)
_BIAS = re.compile(r"\.bias$")
_PLAIN_PATTERN = re.compile(r"\^?[\w.]+\$?")
_OTHER_SETTINGS = {
    "use_dora": "is a DoRA adapter, which also scales the weights of its base",
    "use_qalora": "is a QALoRA adapter, whose products are pooled",
    "target_parameters": "adapts parameters of experts, which are no matrices of their own",
    "layer_replication": "repeats layers of its base",
    "modules_to_save": "replaces whole weights of its base beside the products",
    "trainable_token_indices": "replaces embeddings of tokens beside the products",
    "lora_bias": "adds biases beside the products",
    "arrow_config": "routes between several adapters",
    "alora_invocation_tokens": "is switched on by tokens of the prompt",
}
_OTHER_START = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin that move weights from the base into the adapter, so that its product is no change of the base."""
_WHAT_FITS = "Spectra are read of plain LoRA adapters; let the other scanners look at this one."


@dataclass(frozen=True, kw_only=True, eq=False)
class LoraFactors:
    """The change ``scale · b @ a`` of one module.

    Args:
        module: its path in the base.
        a: ``[r, in]`` float32.
        b: ``[out, r]`` float32.
        scale: ``alpha / r``, or ``alpha / √r`` of rank-stabilised LoRA.
    """

    module: str
    a: torch.Tensor
    b: torch.Tensor
    scale: float


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The settings of a LoRA adapter that its products depend on.

    Args:
        source: the adapter's folder, for messages.
        rank: of all modules that ``ranks`` does not name.
        alpha: the same for the scale.
        ranks, alphas: by the end of a module's path.
        stabilised: whether the scale is ``alpha / √r``.
        targets: names of the modules that were asked for, sorted.
        dropout: of the training.
    """

    source: str
    rank: int
    alpha: float
    ranks: dict[str, int]
    alphas: dict[str, float]
    stabilised: bool
    targets: tuple[str, ...]
    dropout: float

    def scale(self, module: str, rank: int) -> float:
        """The factor of the product of a module, whose factors have ``rank``.

        Raises:
            BadInput: the file's rank is not the one of the configuration.
        """
        wanted = _of_pattern(self.ranks, module, self.rank)
        if wanted != rank:
            raise BadInput(
                f"{self.source}, module {module}",
                f"has factors of rank {rank}, and its configuration says {wanted}",
                "Copy or download the adapter again.",
            )
        alpha = _of_pattern(self.alphas, module, self.alpha)
        return float(alpha / (math.sqrt(rank) if self.stabilised else rank))


def read_settings(folder: Path) -> LoraSettings:
    """The settings of the LoRA adapter in ``folder``.

    Raises:
        BadInput: there is no adapter, its configuration is broken, or it is of a kind that is no plain LoRA.
    """
    source = str(folder)
    try:
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError("no mapping")
    except FileNotFoundError as error:
        raise BadInput(source, f"has no {CONFIG}, so it is no adapter", "Give the folder of an adapter.") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(source, f"has a {CONFIG} that is broken ({error})", "Copy the adapter again.") from error
    _refuse_other_kinds(source, config)
    try:
        targets = config.get("target_modules") or ()
        settings = LoraSettings(
            source=source,
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            ranks={str(key): int(value) for key, value in (config.get("rank_pattern") or {}).items()},
            alphas={str(key): float(value) for key, value in (config.get("alpha_pattern") or {}).items()},
            stabilised=bool(config.get("use_rslora")),
            targets=(targets,) if isinstance(targets, str) else tuple(sorted(map(str, targets))),
            dropout=float(config.get("lora_dropout") or 0.0),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(source, f"has a {CONFIG} that says no rank or scale ({error})", "Copy it again.") from error
    if settings.rank < 1 or not math.isfinite(settings.alpha):
        raise BadInput(source, f"has rank {settings.rank} and alpha {settings.alpha}", "Copy the adapter again.")
    for pattern in (*settings.ranks, *settings.alphas):
        if not _PLAIN_PATTERN.fullmatch(pattern):  # a regular expression of a stranger's can take for ever
            raise BadInput(source, f"has a rank or scale for a pattern that is no name ({pattern[:40]!r})", _WHAT_FITS)
    return settings


def lora_factors(folder: Path) -> Iterator[LoraFactors]:
    """The factors of each module in the adapter's file, by rising name, one module in memory at a time.

    Args:
        folder: of a PEFT adapter in safetensors.

    Raises:
        BadInput: the adapter is of another kind, its file is missing, broken, or holds anything beside the products;
            numbers are not finite, or shapes do not fit each other.

    Examples:
        >>> from reticent.testing.peft_zoo import save_peft_adapter, save_peft_base
        >>> folder = save_peft_adapter(save_peft_base(Path("base")), Path("adapter"), "lora_some")
        >>> [factors.module.split(".", 2)[2] for factors in lora_factors(folder)][:2]
        ['0.self_attn.q_proj', '0.self_attn.v_proj']
    """
    settings = read_settings(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise BadInput(settings.source, f"has no {WEIGHTS}", "Save the adapter with save_pretrained().")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            pairs = _pairs(settings.source, list(file.keys()))
            for module, (a, b, embedding) in sorted(pairs.items()):
                yield _factors(settings, module, file.get_tensor(a), file.get_tensor(b), embedding)
    except (SafetensorError, OSError) as error:
        raise BadInput(str(path), f"is no whole safetensors file ({error})", "Copy or download it again.") from error


def _refuse_other_kinds(source: str, config: dict[str, Any]) -> None:
    kind = str(config.get("peft_type") or "unknown")
    if kind.upper() != "LORA":
        raise BadInput(source, f"is an adapter of the kind {kind[:40]}, no product of two matrices", _WHAT_FITS)
    for setting, words in _OTHER_SETTINGS.items():
        if config.get(setting):
            raise BadInput(source, f"{words} ({setting})", _WHAT_FITS)
    if str(config.get("bias") or "none") != "none":
        raise BadInput(source, "replaces biases of its base beside the products (bias)", _WHAT_FITS)
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_OTHER_START):
        raise BadInput(source, f"began with parts of its base (init_lora_weights={start[:40]!r})", _WHAT_FITS)


def _pairs(source: str, keys: list[str]) -> dict[str, tuple[str, str, bool]]:
    """Module → keys of its ``A`` and ``B``, and whether it is an embedding."""
    sides: dict[str, dict[str, str]] = {}
    embeddings: set[str] = set()
    for key in keys:
        named = None if _BIAS.search(key) else _KEY.fullmatch(key)
        if named is None:
            raise BadInput(source, f"holds weights beside the products of LoRA, {key[:120]!r} first", _WHAT_FITS)
        if sides.setdefault(named["module"], {}).setdefault(named["side"], key) != key:
            raise BadInput(source, f"holds two adapters on {named['module'][:120]}", "Save one adapter by itself.")
        if named["embedding"]:
            embeddings.add(named["module"])
    lacking = sorted(module for module, of_module in sides.items() if len(of_module) != 2)
    if lacking or not sides:
        why = f"has only one of two factors of {lacking[0][:120]}" if lacking else "holds no weights"
        raise BadInput(source, why, "Copy or download the adapter again.")
    return {module: (pair["A"], pair["B"], module in embeddings) for module, pair in sides.items()}


def _factors(settings: LoraSettings, module: str, a: torch.Tensor, b: torch.Tensor, embedding: bool) -> LoraFactors:
    given = f"{settings.source}, module {module[:120]}"
    if not (a.is_floating_point() and b.is_floating_point()):
        raise BadInput(given, f"has factors of whole numbers ({a.dtype}, {b.dtype})", _WHAT_FITS)
    if a.ndim != 2 or b.ndim != 2:
        raise BadInput(given, f"has factors of {a.ndim} and {b.ndim} dimensions, as convolutions have", _WHAT_FITS)
    if a.shape[0] != b.shape[1] or not a.numel() or not b.numel():
        raise BadInput(
            given, f"has factors of shapes {tuple(a.shape)} and {tuple(b.shape)}", "Copy or download the adapter again."
        )
    a, b = a.float(), b.float()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise BadInput(given, "has numbers that are not finite", "Do not use the adapter; copy or download it again.")
    return LoraFactors(module=module, a=a, b=b, scale=settings.scale(module, int(a.shape[0])))


def _of_pattern(values: dict[str, Any], module: str, default: Any) -> Any:
    """The value of the first name that the module's path ends with, as PEFT chooses it."""
    for pattern, value in values.items():
        name = pattern.removeprefix("^").removesuffix("$")
        if module == name or (not pattern.startswith("^") and module.endswith(f".{name}")):
            return value
    return default
