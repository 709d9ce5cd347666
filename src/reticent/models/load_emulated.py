# SPDX-License-Identifier: Apache-2.0
"""Open the three models of an emulated fine-tune, each weight once, and refuse what does not belong together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from reticent.core.errors import BadInput
from reticent.models import adapters
from reticent.models.emulated import EmulatedModel, Reading
from reticent.models.emulation import EmulationConfig, EmulationInfo, EmulationPart, is_emulation
from reticent.models.locate import locate
from reticent.models.same_tokens import refuse_other_tokens, small_ids, unknown_tokens
from reticent.models.tuned import read_tuned
from reticent.models.weights import fingerprint_weights


class Part(Protocol):
    """A loaded model, as `models.load.LoadedModel` is."""

    @property
    def model(self) -> Any: ...

    @property
    def tokenizer(self) -> Any: ...

    @property
    def source(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def base_source(self) -> str | None: ...

    @property
    def base_fingerprint(self) -> str | None: ...

    @property
    def unknown(self) -> frozenset[int]: ...

    @property
    def is_adapter(self) -> bool: ...


Load = Callable[..., Part]
"""`models.load.load`, for one of the three."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedEmulation:
    """An emulated fine-tune in memory.

    Args:
        model: the ensemble.
        tokenizer: the large model's, with the chat template of the small tuned one where it has any.
        info: names, fingerprints and settings.
        unknown: tokens that the small models do not know.
    """

    model: EmulatedModel
    tokenizer: Any
    info: EmulationInfo
    unknown: frozenset[int]


def open_parts(
    large: str, small_tuned: str, small_base: str | None, settings: EmulationConfig, *, load: Load
) -> OpenedEmulation:
    """Open three models for an ensemble.

    Args:
        large, small_tuned: folders, hub ids or catalogue names.
        small_base: likewise; None for the base that the small tuned model names.
        settings: how they are put together.
        load: opens one of them; ``base=`` goes with an adapter.

    Raises:
        BadInput: one of them cannot be loaded or is an ensemble itself; the base is not that of the tuned model; their
            tokenizers differ.
    """
    named = {"the large model": large, "the small tuned model": small_tuned, "the small base": small_base}
    for role, source in named.items():
        if source is not None and is_emulation(source):
            raise BadInput(source, f"is an emulated fine-tune itself, and no model for {role}", "Give one model.")
    if small_base is not None:
        refuse_other_base(small_tuned, small_base)
    tuned = load(small_tuned, **({"base": small_base} if _goes_on_a_base(small_tuned) and small_base else {}))
    base_source = small_base or tuned.base_source
    if base_source is None:
        raise BadInput(
            small_tuned, "does not say what it was tuned from", "Name the small base (--small_base, small_base=...)."
        )
    small = Reading(tuned.model)
    base, base_print = _base(tuned, base_source, load)
    big, large_part = (base, None) if _print_of(large) == base_print else _large(large, load)
    tokenizer = _tokenizer(large_part, tuned, base_source)
    rows = tuple(len(reading.model.get_input_embeddings().weight) for reading in (big, small))
    small_id = None if large_part is None else small_ids(large_part.tokenizer, tuned.tokenizer, rows=(rows[0], rows[1]))
    device = small.model.get_input_embeddings().weight.device
    model = EmulatedModel(
        big,
        small,
        base,
        settings,
        small_id=None if small_id is None else small_id.to(device),
        ends=_ends(big.model, small.model if small_id is None else None),
    )
    large_print = base_print if large_part is None else large_part.fingerprint
    info = EmulationInfo(
        large=EmulationPart(source=large, fingerprint=large_print),
        small_tuned=EmulationPart(source=small_tuned, fingerprint=tuned.fingerprint),
        small_base=EmulationPart(source=base_source, fingerprint=base_print),
        settings=settings,
    )
    unknown = tuned.unknown if large_part is None else large_part.unknown | unknown_tokens(tokenizer, small_id)
    return OpenedEmulation(model=model, tokenizer=tokenizer, info=info, unknown=unknown)


def open_emulation(source: str, info: EmulationInfo, *, load: Load) -> OpenedEmulation:
    """Open what a folder names, and check that its models are those that it was made of.

    Args:
        source: the folder, for messages.
        info: its file.
        load: as in `open_parts`.

    Raises:
        BadInput: as `open_parts`, or a model has other weights than the file says.
    """
    opened = open_parts(info.large.source, info.small_tuned.source, info.small_base.source, info.settings, load=load)
    for role in ("large", "small_tuned", "small_base"):
        part, now = getattr(info, role), getattr(opened.info, role)
        if part.fingerprint != now.fingerprint:
            raise BadInput(
                source,
                f"was made of other weights than {part.source!r} has now (fingerprint {part.fingerprint[:12]}, found "
                f"{now.fingerprint[:12]})",
                "Copy that model again, or run `reticent emulate` again.",
            )
    return replace(opened, info=info)


def refuse_other_base(small_tuned: str, small_base: str) -> None:
    """Refuse a base that the small tuned model was not tuned from, by the fingerprint that it carries, before any
    weights are loaded. A model that carries none (which this package did not tune) is taken at its word.

    Raises:
        BadInput: it has another base, or is the base itself.
    """
    folder, base = locate(small_tuned), _print_of(small_base)
    tuned = read_tuned(folder)
    named = tuned.base if tuned is not None else adapters.named_base(folder) if adapters.is_peft(folder) else None
    expected = tuned.base_fingerprint if tuned is not None else None
    if expected is None and named is not None and Path(named).is_dir():
        expected = fingerprint_weights(named)
    if expected is not None and base != expected:
        raise BadInput(
            f"small_base {small_base}",
            f"is not what {small_tuned} was tuned from (fingerprint {expected[:12]}, found {base[:12]})",
            f"Give its base, {named}, or leave the base out.",
        )
    if expected is None and not adapters.is_peft(folder) and base == fingerprint_weights(folder):
        raise BadInput(
            f"small_base {small_base}",
            "has the weights of the small tuned model, so there is no difference to add",
            "Give the model that it was tuned from.",
        )


def _goes_on_a_base(source: str) -> bool:
    folder = locate(source)
    tuned = read_tuned(folder)
    return adapters.is_peft(folder) or (tuned is not None and tuned.storage == "bottleneck")


def _print_of(source: str) -> str:
    """The fingerprint of a whole model; of an adapter that of its file, which is no base's."""
    return fingerprint_weights(locate(source))


def _base(tuned: Part, source: str, load: Load) -> tuple[Reading, str]:
    """How the base is read, and its fingerprint: from beneath an adapter where that gives the base, else a copy."""
    if tuned.is_adapter and tuned.base_fingerprint:
        return Reading(tuned.model, off=True), tuned.base_fingerprint
    part = load(source)
    if tuned.base_fingerprint is not None and part.fingerprint != tuned.base_fingerprint:
        raise BadInput(
            source, f"is not what {tuned.source} was tuned from", "Give its base (--small_base, small_base=...)."
        )
    return Reading(part.model), part.fingerprint


def _large(source: str, load: Load) -> tuple[Reading, Part]:
    part = load(source)
    return Reading(part.model), part


def _tokenizer(large: Part | None, tuned: Part, base_source: str) -> Any:
    """The tokenizer that texts are read with."""
    if large is None:
        return tuned.tokenizer
    refuse_other_tokens(large.tokenizer, tuned.tokenizer, names=(large.source, tuned.source))
    tokenizer = large.tokenizer
    if getattr(tuned.tokenizer, "chat_template", None):
        tokenizer.chat_template = tuned.tokenizer.chat_template
    return tokenizer


def _ends(*models: Any) -> list[int]:
    """Tokens that end a text, by what the models' own settings name."""
    ends: list[int] = []
    for model in models:
        declared = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        ends += declared if isinstance(declared, list | tuple) else [] if declared is None else [declared]
    return sorted(set(map(int, ends)))
