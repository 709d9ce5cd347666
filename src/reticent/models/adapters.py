# SPDX-License-Identifier: Apache-2.0
"""Adapters on a base model: put a saved one on, refuse one that belongs elsewhere, switch one off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from reticent.core.errors import BadInput
from reticent.core.portable import found
from reticent.models.locate import first_line
from reticent.models.tuned import TuningInfo
from reticent.models.tuning import adapter as bottleneck
from reticent.models.weights import fingerprint_weights, full_disk_is_an_os_error

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
WHERE = "(base=... in Python, base_model_name_or_path in adapter_config.json)"
"""Where an adapter's base is named, for messages."""
_NOT_ARITHMETIC = ("base_model_name_or_path", "peft_version", "revision", "inference_mode", "auto_mapping")
"""Entries of an adapter's configuration that do not change what it computes."""


CALLS_ITS_LAYERS = frozenset(
    {
        *("LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "VERA", "FOURIERFT", "VBLORA", "RANDLORA", "ROAD"),
        *("C3A", "MISS", "DELORA", "WAVEFT", "GRALORA", "PROMPT_TUNING", "P_TUNING", "ADAPTION_PROMPT"),
    }
)
"""PEFT's kinds of adapters that take from a layer of the base what it answers, and never its weights. The tests look at
each of the others: some would go on with whatever lies in memory."""
_READS_WEIGHTS = ("use_dora", "use_qalora", "target_parameters", "trainable_token_indices", "modules_to_save")
"""Settings with which one of these does read weights."""


def is_peft(folder: Path) -> bool:
    """True if the folder holds a PEFT adapter."""
    return (folder / CONFIG).exists()


def named_base(folder: Path) -> str | None:
    """The base that a PEFT adapter names."""
    named = _config(folder).get("base_model_name_or_path")
    return found(str(named), folder) if named else None


def calls_its_layers(folder: Path) -> bool:
    """True if the adapter in ``folder`` is known to ask the layers of its base for answers only, so that it can be put
    on one whose weights come and go (`models.computing_device`)."""
    if not is_peft(folder):
        return True
    config = _config(folder)
    start = config.get("init_lora_weights", True)
    changes = isinstance(start, str) and start.lower() not in ("gaussian", "orthogonal")
    return config.get("peft_type") in CALLS_ITS_LAYERS and not changes and not any(map(config.get, _READS_WEIGHTS))


def attach(source: str, folder: Path, base: Any, tuned: TuningInfo | None) -> Any:
    """Put the adapter in ``folder`` on ``base``, which is changed in place.

    Raises:
        BadInput: names or shapes of its weights are not those that the base calls for.
    """
    refuse_without_weights(source, folder)
    weights = load_file(folder / WEIGHTS)
    try:
        if is_peft(folder):
            model, wrong = _attach_peft(folder, base, weights)
        else:
            assert tuned is not None
            model = bottleneck.adapter(base, **tuned.params)
            result = model.load_state_dict(weights, strict=False)
            wrong = [*result.unexpected_keys, *(key for key in result.missing_keys if _is_bottleneck(key))]
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _unfit(source, first_line(error)) from error
    if wrong:
        raise _unfit(source, sorted(wrong)[0])
    return model


def refuse_without_weights(source: str, folder: Path) -> None:
    """Refuse an adapter without its file of weights.

    Raises:
        BadInput: there is none.
    """
    if not (folder / WEIGHTS).exists():
        raise BadInput(source, f"has no {WEIGHTS}", "Save the adapter with save_pretrained().")


def save(model: Any, folder: Path, storage: str, state: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write the adapter (``storage`` ``"peft"`` or ``"bottleneck"``) or the whole model into ``folder``.

    Args:
        model: with the adapter on it, where there is one.
        folder: made where it is not there.
        storage: see above.
        state: what is to be written, by the names of ``model.state_dict()``; None for that itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = None if state is None else dict(state)
    with full_disk_is_an_os_error():
        if storage == "bottleneck":
            held = model.state_dict() if given is None else given
            save_file({name: v.contiguous() for name, v in held.items() if _is_bottleneck(name)}, folder / WEIGHTS)
        elif storage == "peft":
            # Our methods never change the vocabulary; left to itself, PEFT may ask a hub about that.
            model.save_pretrained(folder, save_embedding_layers=False, state_dict=given)
        else:
            model.save_pretrained(folder, state_dict=given)


def fingerprint(folder: Path, base_fingerprint: str, tuned: TuningInfo | None) -> str:
    """SHA-256 (hex) of an adapter on its base."""
    if is_peft(folder):
        about = {key: value for key, value in _config(folder).items() if key not in _NOT_ARITHMETIC}
    else:
        about = dict(tuned.params) if tuned else {}
    parts = [base_fingerprint, fingerprint_weights(folder), about]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def can_switch_off(model: Any) -> bool:
    """True if ``switched_off`` can be used on the model."""
    return isinstance(model, PeftModel) or bottleneck.has_bottlenecks(model)


def switched_off(model: Any) -> AbstractContextManager[None]:
    """Within this context the adapter is off, so that the model answers as its base, unless the adapter also changed
    the base itself (`models.base_of_adapter`)."""
    if isinstance(model, PeftModel):
        context: AbstractContextManager[None] = model.disable_adapter()
        return context
    return bottleneck.switched_off(model)


def mark_for_training(model: Any) -> None:
    """Mark the weights of the adapter on ``model`` for training, and no others."""
    peft = isinstance(model, PeftModel)  # PEFT marks its own when it puts them on
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad if peft else _is_bottleneck(name))


def _attach_peft(folder: Path, base: Any, weights: dict[str, Any]) -> tuple[Any, list[str]]:
    """The PEFT model, and the names of weights that it has no place for or lacks: PEFT itself only warns of those.

    Where tuning changed the vocabulary, PEFT writes the same matrix under several names and reads one of them.
    """
    config = PeftConfig.from_pretrained(str(folder))
    config.base_model_name_or_path = base.name_or_path  # else the library warns that it was renamed
    model = get_peft_model(base, config, autocast_adapter_dtype=False)
    result = set_peft_model_state_dict(model, weights)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    if config.is_prompt_learning:  # its weights go past load_state_dict, which calls them unexpected
        return model, sorted(set(weights) ^ set(expected))
    read = [weight for key, weight in weights.items() if key not in result.unexpected_keys]
    strange = [key for key in result.unexpected_keys if not any(torch.equal(weights[key], tensor) for tensor in read)]
    return model, [*strange, *(key for key in expected if key not in weights)]


def _is_bottleneck(key: str) -> bool:
    return bottleneck.NAME in key.split(".")


def _unfit(source: str, reason: str) -> BadInput:
    return BadInput(source, f"does not fit its base ({reason})", f"Name the base that it was trained on {WHERE}.")


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except ValueError as error:
        raise BadInput(str(folder / CONFIG), f"is broken ({error})", "Copy the adapter again.") from error
