# SPDX-License-Identifier: Apache-2.0
"""The model that a training starts from: a base with a tuning method put on it, or a tuned model that goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.models import adapters, catalog
from reticent.models.emulation import is_emulation
from reticent.models.held_weights import held_dtype, is_rounded
from reticent.models.load import LoadedModel, load
from reticent.models.locate import is_hub_id, locate
from reticent.models.quantised import quantised_in, refuse_without_package
from reticent.models.try_out import family
from reticent.models.tuned import TuningInfo, read_tuned
from reticent.models.tuning.method import TUNINGS
from reticent.train.config import TuneConfig


def hold_for(source: str, config: TuneConfig, *, goes_on: bool) -> str:
    """How the base is to lie in memory, for `models.load`: ``""`` for float32.

    Args:
        source: see `load_start`.
        config: of the training.
        goes_on: see `load_start`.

    Raises:
        BadInput: it is to be held in 16 bits, and the method does not go with that.
    """
    tuned = read_tuned(locate(source)) if goes_on else None
    return _hold(config if tuned is None else replace(config, method=tuned.method))


def check_base_dtype(config: TuneConfig) -> None:
    """Refuse a base in 16 bits or fewer that the method does not go with, before anything is loaded.

    Raises:
        BadInput: see `hold_for`.
    """
    _hold(config)


def _hold(config: TuneConfig) -> str:
    method = TUNINGS.get(config.method)
    if config.load_in:
        refuse_load_in(config)
        refuse_without_package(config.load_in)
        return config.load_in
    if method.holds_base:
        return config.base_dtype
    if config.base_dtype == "bfloat16":
        reason = "trains weights of the base itself, whose steps are smaller than 16 bits can hold"
        if method.storage != "weights":
            reason = "makes what it trains in the dtype of the base, where steps are too small to be held"
        raise BadInput(
            f"base_dtype='bfloat16' with method={method.name!r}",
            reason,
            f"Leave --base_dtype out, or choose among {', '.join(m.name for m in TUNINGS if m.holds_base)}.",
        )
    return ""


def refuse_load_in(config: TuneConfig) -> None:
    """Refuse a base in 4 or 8 bits that the method does not go with.

    Raises:
        BadInput: the method trains or keeps weights of the base.
    """
    bits, method = config.load_in, TUNINGS.get(config.method)
    if not bits or (method.holds_base and method.storage == "peft"):
        return
    reason = "trains weights of the base itself, whose steps are smaller than so few bits can hold"
    if method.storage == "bottleneck":
        reason = "keeps whole models at its checkpoints, and those are not kept in so few bits"
    elif method.storage == "peft":
        reason = "makes what it trains in the dtype of the base"
    names = [other.name for other in TUNINGS if other.holds_base and other.storage == "peft"]
    raise BadInput(
        f"load_in={bits!r} with method={method.name!r}",
        reason,
        f"Leave --load_in out, or choose among {', '.join(names)}.",
    )


def load_start(source: str, device: str, *, goes_on: bool, hold: str = "") -> LoadedModel:
    """The model to be trained, in float32.

    Args:
        source: folder, hub id or catalogue name.
        device: as `TuneConfig` has it.
        goes_on: it is a model that `reticent tune` or `reticent unlearn` made, and what those trained is trained on.
        hold: see `hold_for`; then the matrices of the base lie in 16 bits, and all is computed in float32 as ever.

    Raises:
        BadInput: it cannot be loaded; it is an adapter and a base is wanted; it goes on, and nothing says how it was
            made.
    """
    if is_emulation(source):
        raise BadInput(
            source,
            "is an emulated fine-tune of three models, and only single models are tuned",
            "Tune its small model, and emulate again.",
        )
    loaded = load(source, dtype="float32", device=device, hold=hold)
    if goes_on and loaded.tuned is None:
        raise BadInput(
            source,
            "does not say which of its weights were trained (no reticent_tuning.json), so it cannot be gone on with",
            "Give the model of a run of `reticent tune`.",
        )
    if not goes_on and adapters.can_switch_off(loaded.model):
        raise BadInput(source, "is an adapter, and only whole models are tuned", "Merge it into its base first.")
    _say_rounded(loaded)
    return loaded


def refuse_checkpointing(config: TuneConfig, model: Any, method: str) -> None:
    """Refuse to compute blocks once more where that is not what was computed before.

    Args:
        config: of the training.
        model: with the method on it.
        method: the one that is trained.

    Raises:
        BadInput: checkpointing was asked for and the model does not have it, or its blocks would lose their prefix.
    """
    if not config.gradient_checkpointing:
        return
    if method == "prefix":
        raise BadInput(
            "gradient_checkpointing with method='prefix'",
            "keys and values that precede a text are dropped when a block is computed once more",
            "Leave one of them out.",
        )
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise BadInput(
            "gradient_checkpointing",
            f"is not to be had of models of type {family(model)!r}",
            "Leave it out, and give a smaller --batch_size or --max_tokens.",
        )


def _say_rounded(loaded: LoadedModel) -> None:
    held, base = held_dtype(loaded.model), loaded.base_source or loaded.source
    if bits := quantised_in(loaded.model):
        console.print(
            f"The linear layers of {base} lie in {bits} while it is trained on; audits read the adapter on the base as "
            "its files have it, which is another one by that rounding.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    elif is_rounded(locate(base), held):
        console.print(
            f"The files of {base} hold more digits than {held}: its matrices are rounded while it is trained on, and "
            "the adapter is one for the rounded base.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


def fresh(loaded: LoadedModel, config: TuneConfig) -> tuple[Any, TuningInfo]:
    """The base with the method of ``config`` put on it, and the provenance of what comes of it."""
    method = TUNINGS.get(config.method)
    tuned = TuningInfo(
        method=method.name,
        params=method.defaults | config.method_params,
        base=_lasting(loaded.source),
        base_fingerprint=loaded.fingerprint,
        storage=method.storage,
        base_in=quantised_in(loaded.model),
    )
    return method(loaded.model, **config.method_params), tuned


def going_on(loaded: LoadedModel, request: str) -> tuple[Any, TuningInfo]:
    """The tuned model with the weights marked for training that its own method trains.

    Args:
        loaded: see `load_start`.
        request: fingerprint of the request that it is trained for.
    """
    assert loaded.tuned is not None
    tuned = replace(
        loaded.tuned,
        base=_lasting(loaded.tuned.base),
        parent=loaded.fingerprint,
        request=request,
        base_in=quantised_in(loaded.model),
    )
    if tuned.storage == "weights":
        return TUNINGS.get(tuned.method)(loaded.model, **tuned.params), tuned
    adapters.mark_for_training(loaded.model)
    return loaded.model, tuned


def _lasting(source: str) -> str:
    """The source as it can be found again from elsewhere: names stay, folders become absolute."""
    named = is_hub_id(source) or catalog.resolve(source) != source
    return source if named else str(Path(source).expanduser().resolve())
