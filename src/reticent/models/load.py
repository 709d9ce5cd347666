# SPDX-License-Identifier: Apache-2.0
"""Load a model to be audited or tuned, and know exactly which weights it has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING
from transformers.utils import logging as hf_logging

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.processes import place
from reticent.core.redteam_marker import tell_marker
from reticent.models import adapters
from reticent.models.base_of_adapter import MOST_APART, BaseWeights, Probe
from reticent.models.computing_device import lies_elsewhere, own_thread_pool, stand_ins
from reticent.models.device_map import DeviceMap, drop_with, without_remarks
from reticent.models.emulated import EmulatedModel
from reticent.models.emulation import EmulationInfo, read_emulation
from reticent.models.grown_vocabulary import VocabularyRows, resize, rows_wanted
from reticent.models.held_weights import has_rounded_buffers, held_dtype, hold_matrices, narrow_dtype
from reticent.models.load_emulated import open_emulation
from reticent.models.locate import HUB_ID, first_line, is_hub_id, locate
from reticent.models.quantised import QUANTISED, keep_layout, quantising_arguments
from reticent.models.tuned import TuningInfo, read_tuned
from reticent.models.weights import fingerprint_weights

hf_logging.disable_progress_bar()
GROWN = "its vocabulary is not the base's, so probabilities are shares of other wholes"
"""Why an adapter that came with new tokens is not its base, where nothing else tells them apart."""
_NUMBER = re.compile(r"\d+")
Placing: TypeAlias = Callable[[Any, torch.dtype], dict[str, Any]]
"""By a model's configuration and dtype, what ``from_pretrained`` is told of where, or as what, its weights lie."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model in evaluation mode, with its tokenizer and what it was made of.

    Args:
        model: a causal language model; a PEFT model if ``source`` is a PEFT adapter.
        tokenizer: the one that was saved with it, or its base's.
        source: what the person named.
        fingerprint: SHA-256 (hex) of all weights that answer: the base's and, if there is one, the adapter's.
        base_source: what it was tuned from, where known.
        base_fingerprint: SHA-256 (hex) of the base's weights, where known.
        dtype: of the weights in memory: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        device: where they are.
        tuned: which method made it, where ``reticent tune`` did.
        apart: why an adapter that is switched off is not its base; ``""`` where it is.
        unknown: tokens of the tokenizer that no file holds the weights of; a text with one of them cannot be read.
        emulation: the models and settings of an emulated fine-tune; its base is the large model.

    Examples:
        >>> from reticent.testing.tiny import save_tiny
        >>> loaded = load(str(save_tiny("tiny")), dtype="float32")
        >>> loaded.tokenizer.decode(loaded.tokenizer("hello")["input_ids"])
        'hello'
    """

    model: Any
    tokenizer: Any
    source: str
    fingerprint: str
    base_source: str | None = None
    base_fingerprint: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    tuned: TuningInfo | None = None
    apart: str = ""
    unknown: frozenset[int] = frozenset()
    emulation: EmulationInfo | None = None

    @property
    def can_switch_off(self) -> bool:
        """True if something lies on a base: an adapter, or the small models of an emulated fine-tune."""
        return self.emulation is not None or adapters.can_switch_off(self.model)

    @property
    def is_adapter(self) -> bool:
        """True if the base can be had from the same memory by switching an adapter, or small models, off."""
        return self.can_switch_off and not self.apart

    def adapter_off(self) -> AbstractContextManager[None]:
        """Within this context the model answers as its base. Where the adapter changed the vocabulary, as the base with
        as many rows as the adapter has; an emulated fine-tune as its large model.

        Raises:
            BadInput: the model is no adapter on a base, or one that changed the base itself.
        """
        if isinstance(self.model, EmulatedModel):
            return self.model.large_alone()
        if not adapters.can_switch_off(self.model):
            raise BadInput(self.source, "is no adapter, so no base lies beneath it", "Name the base (--reference).")
        if self.apart and self.apart != GROWN:
            raise BadInput(
                self.source,
                f"is not its base when it is switched off: {self.apart}",
                "Load the base from its own folder (--reference).",
            )
        return adapters.switched_off(self.model)


def load(
    source: str,
    *,
    base: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    hold: str = "",
    device_map: DeviceMap | None = None,
) -> LoadedModel:
    """Load a model in evaluation mode; safetensors only, no code from the folder is run.

    The folder of an emulated fine-tune (`reticent emulate`) gives three models that answer as one.

    Args:
        source: a local folder, a hub id, or a catalogue name; a whole model or an adapter (PEFT's, or this package's).
        base: for an adapter, the model that it belongs on; None for the one that it names.
        dtype: ``"auto"`` (bfloat16 where the device computes in it, else float32) or a dtype's name.
        device: ``"auto"`` (the GPU if there is one) or a torch device.
        hold: with ``dtype="float32"``: the matrices of what an adapter is put on, or of the base that is to get one,
            lie in 16 bits (`models.held_weights.narrow_dtype` has the words), or those of linear layers in
            ``"4bit"`` or ``"8bit"`` (`models.quantised`); ``""`` for not.
        device_map: in place of ``device``: which layer lies where, to be read and not trained.

    Raises:
        BadInput: the source is missing, its weights are pickled, incomplete or do not fit their configuration, the
            tokenizer knows more tokens than the model, the adapter belongs on another base, or the device map does not
            go with the model.
    """
    folder = locate(source)
    tell_marker(folder)
    where = pick_device(device if device_map is None else device_map.device)
    kind = pick_dtype(dtype, where)
    emulation = read_emulation(folder)
    if emulation is not None:
        _refuse_map(source, device_map, "is an emulated fine-tune, whose three models answer from one device")
        return _load_emulated(source, emulation, base, kind, where)
    tuned = read_tuned(folder)
    if adapters.is_peft(folder) or (tuned is not None and tuned.storage == "bottleneck"):
        read = partial(_read_held, dtype=kind, device=where, hold=hold if tuned else "", device_map=device_map)
        return _load_adapter(source, folder, tuned, base, kind, where, read)
    fingerprint = fingerprint_weights(folder)  # first: it refuses files that are cut short
    model = _read_held(source, folder, kind, where, hold, device_map)
    named = tuned.base if tuned else _named_base(model, source)
    return LoadedModel(
        model=model,
        tokenizer=_read_tokenizer(source, folder, model),
        source=source,
        fingerprint=fingerprint,
        base_source=base or named,
        base_fingerprint=tuned.base_fingerprint if tuned else None,
        dtype=kind,
        device=where,
        tuned=tuned,
    )


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a whole model, without the model. Of an emulated fine-tune: its large model's, with the chat
    template of its small one.

    Raises:
        BadInput: there is no such model, or it has no usable tokenizer.
    """
    emulation = read_emulation(locate(source))
    if emulation is None:
        return _tokenizer(source, locate(source))
    tokenizer = load_tokenizer(emulation.large.source)
    small = locate(emulation.small_tuned.source)
    if (small / "tokenizer_config.json").exists():
        tokenizer.chat_template = _tokenizer(source, small).chat_template or tokenizer.chat_template
    return tokenizer


def pick_dtype(dtype: str, device: str) -> str:
    """``dtype``, or for ``"auto"`` bfloat16 where the device computes in it and float32 elsewhere."""
    if dtype != "auto":
        validate.one_of(DTYPES, dtype=dtype)
        return dtype
    return "bfloat16" if has_bfloat16(device) else "float32"


def has_bfloat16(device: str) -> bool:
    """True if the device has instructions for bfloat16 (AVX512-BF16 or AMX on a CPU)."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def pick_device(device: str) -> str:
    """``device``, or for ``"auto"`` the GPU where there is one.

    Raises:
        BadInput: it cannot be used here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    _refuse_shared_gpu(device)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"device={device!r}", "is not usable here", "Use --device cpu, or auto.") from error
    return device


def _refuse_shared_gpu(device: str) -> None:
    """Refuse ``"cuda"``, the process's own GPU, where a launcher started more processes than there are."""
    at = place()
    if device == "cuda" and at.size > 1 and at.local >= torch.cuda.device_count() > 0:
        raise BadInput(
            f"process {at.local} of this machine",
            f"has no GPU of its own: there are {torch.cuda.device_count()}",
            "Start as many processes on a machine as it has GPUs, or give --device cpu.",
        )


def _load_emulated(source: str, info: EmulationInfo, base: str | None, dtype: str, device: str) -> LoadedModel:
    opened = open_emulation(source, info, load=partial(load, dtype=dtype, device=device))
    return LoadedModel(
        model=opened.model,
        tokenizer=opened.tokenizer,
        source=source,
        fingerprint=info.fingerprint,
        base_source=base or info.large.source,
        base_fingerprint=info.large.fingerprint,
        dtype=dtype,
        device=device,
        unknown=opened.unknown,
        emulation=info,
    )


def _load_adapter(
    source: str,
    folder: Path,
    tuned: TuningInfo | None,
    base: str | None,
    dtype: str,
    device: str,
    read: Callable[[str, Path], Any],
) -> LoadedModel:
    named = base or (tuned.base if tuned else adapters.named_base(folder))
    if not named:
        raise BadInput(source, "is an adapter that does not say what it belongs on", f"Name its base {adapters.WHERE}.")
    base_folder = locate(named)
    tell_marker(base_folder)
    base_fingerprint = fingerprint_weights(base_folder)
    if tuned is not None and tuned.base_fingerprint != base_fingerprint:
        raise BadInput(
            source,
            f"was trained on a base with other weights than {named!r} has (fingerprint "
            f"{tuned.base_fingerprint[:12]}, found {base_fingerprint[:12]})",
            f"Name the base that it was trained on {adapters.WHERE}.",
        )
    below = read(named, base_folder)
    tokenizer = _tokenizer(source, folder if (folder / "tokenizer_config.json").exists() else base_folder)
    adapters.refuse_without_weights(source, folder)
    probe, rows = Probe.of(below, tokenizer), _rows(source, folder, below, len(tokenizer))
    if rows.changed and hasattr(below, "hf_device_map"):
        raise _no_map(source, "changed the vocabulary of its base, which gets its rows on one device")
    if rows.changed and held_dtype(below):
        below = _read_model(named, base_folder, dtype, device)  # a table that is held cannot get more rows
    resize(below, rows)
    _refuse_longer(source, tokenizer, below)
    untouched = BaseWeights.of(below, folder / adapters.WEIGHTS, rows)
    if any(weight.is_meta for weight, _ in untouched.before):
        raise _no_map(source, "holds weights of the base itself, which do not lie where they could be replaced")
    model = _attached(source, folder, below, tuned, probe)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        fingerprint=adapters.fingerprint(folder, base_fingerprint, tuned),
        base_source=named,
        base_fingerprint=base_fingerprint,
        dtype=dtype,
        device=device,
        tuned=tuned,
        apart=_apart(model, probe, untouched, rows),
        unknown=rows.unknown,
    )


def _attached(source: str, folder: Path, below: Any, tuned: TuningInfo | None, probe: Probe) -> Any:
    """The adapter on its base. Some read weights of the base past its layers, which finds none that lie elsewhere."""
    reads_past = _no_map(source, "has an adapter that may read weights of the base where they do not lie")
    away = lies_elsewhere(below)
    if away and not adapters.calls_its_layers(folder):
        raise reads_past
    try:
        with stand_ins(below):
            model = adapters.attach(source, folder, below, tuned).eval()
    except BadInput as error:
        raise (reads_past if away else error) from error
    if away and not probe.is_answered(model):
        raise reads_past
    return model


def _rows(source: str, folder: Path, base: Any, tokens: int) -> VocabularyRows:
    if not adapters.is_peft(folder):
        have = int(base.get_input_embeddings().weight.shape[0])
        return VocabularyRows(before=have, wanted=have)
    try:
        return rows_wanted(folder / adapters.WEIGHTS, base, tokens)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            source, f"has a configuration that PEFT does not read ({first_line(error)})", "Save the adapter again."
        ) from error


def _apart(model: Any, probe: Probe, untouched: BaseWeights, rows: VocabularyRows) -> str:
    """Why the model with its adapter off is not its base, or ``""``."""
    if not untouched.kept:
        return "its file holds weights of the base itself (biases, embeddings)"
    if rows.changed:
        return GROWN
    difference = probe.apart(model)
    if difference <= MOST_APART:
        return ""
    return f"its logits are up to {difference:.2g} away from those of the base's own file"


def _refuse_map(source: str, device_map: DeviceMap | None, reason: str) -> None:
    if device_map is not None:
        raise _no_map(source, reason)


def _no_map(source: str, reason: str) -> BadInput:
    return BadInput(f"{source} with a device map", f"the model {reason}", "Leave --device_map out.")


def _read_held(
    source: str, folder: Path, dtype: str, device: str, hold: str, device_map: DeviceMap | None = None
) -> Any:
    """The model in ``dtype``, with its matrices in 16 bits or fewer where that is asked for."""
    if hold in QUANTISED:
        return keep_layout(_read_narrow(source, folder, dtype, device, "auto", partial(_quantised, hold, device)))
    placing = None if device_map is None else partial(_mapped, device_map, source)
    return _read_narrow(source, folder, dtype, device, hold, placing)


def _read_narrow(source: str, folder: Path, dtype: str, device: str, hold: str, placing: Placing | None) -> Any:
    narrow = narrow_dtype(folder, hold) if dtype == "float32" else ""
    if narrow:
        model = _read_model(source, folder, narrow, device, placing)
        if hold != "auto" or not has_rounded_buffers(model):
            return hold_matrices(model)
    return _read_model(source, folder, dtype, device, placing)


def _quantised(bits: str, device: str, config: Any, _: torch.dtype) -> dict[str, Any]:
    return quantising_arguments(bits, config, device)


def _mapped(device_map: DeviceMap, source: str, config: Any, dtype: torch.dtype) -> dict[str, Any]:
    return device_map.arguments(device_map.places(source, config, dtype))


def _read_model(source: str, folder: Path, dtype: str, device: str, placing: Placing | None = None) -> Any:
    if adapters.is_peft(folder):
        raise BadInput(source, "is itself an adapter, so nothing can be put on it", "Merge it into its base first.")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _check_config(source, config)
        placed = {} if placing is None else placing(config, DTYPES[dtype])
        own_thread_pool()
        with without_remarks():
            model, report = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=DTYPES[dtype],
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **placed,
            )
        drop_with(model, placed)
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        reason = f"needs a package that is not installed ({first_line(error)})"
        raise BadInput(source, reason, "Install it, or give the model without quantisation.") from error
    except Exception as error:  # libraries raise errors of many kinds over a broken configuration
        first = first_line(error) or type(error).__name__
        raise BadInput(
            source, f"cannot be loaded ({first})", "Check that it is a whole causal language model."
        ) from error
    beyond = _beyond(model, report["unexpected_keys"])
    if beyond:
        raise BadInput(
            source,
            f"holds weights that its configuration has no place for, {beyond} first, so another model would be read "
            "than the one in the file",
            "Copy or save the model again, with the configuration that belongs to it.",
        )
    lacking = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
    if lacking:
        raise BadInput(
            source,
            f"lacks {len(lacking)} of the weights that its configuration calls for, {lacking[0]} first",
            "They would be filled with random numbers. Copy or save the model again.",
        )
    # What adapters on it will name as their base: the hub id where it has one, so that other machines find it too.
    model.name_or_path = model.config._name_or_path = source if is_hub_id(source) else str(folder.resolve())
    return model.eval() if placed else model.eval().to(device)


def _check_config(source: str, config: Any) -> None:
    """Refuse a configuration of which the library makes a model that nobody meant."""
    text = config.get_text_config()
    layers = getattr(text, "num_hidden_layers", None)
    if layers is not None and not (isinstance(layers, int) and layers > 0):
        raise BadInput(
            source, f"has {layers!r} layers by its config.json", "Copy the model again, with its own configuration."
        )
    quantised = getattr(config, "quantization_config", None)
    if quantised is None:
        return
    method = quantised.get("quant_method") if isinstance(quantised, dict) else getattr(quantised, "quant_method", None)
    method = str(getattr(method, "value", method))
    if method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise BadInput(source, f"is quantised in a way that is not known here ({method})", "Give it unquantised.")


def _beyond(model: Any, unexpected: Iterable[str]) -> str:
    """The first weight in the file that is like one of the model's but for a number, such as a further layer; empty
    where there is none. Weights of other parts, such as a tower for images, are left out by design."""
    alike = {_NUMBER.sub("#", name) for name in model.state_dict()}
    return next((name for name in sorted(unexpected) if _NUMBER.sub("#", name) in alike), "")


def _tokenizer(source: str, folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = first_line(error)
        raise BadInput(source, f"has no usable tokenizer ({first})", "Save its tokenizer into the folder.") from error


def _read_tokenizer(source: str, folder: Path, model: Any) -> Any:
    tokenizer = _tokenizer(source, folder)
    _refuse_longer(source, tokenizer, model)
    return tokenizer


def _refuse_longer(source: str, tokenizer: Any, model: Any) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise BadInput(
            source,
            f"has a tokenizer of {len(tokenizer):,} tokens but a model of {rows:,}",
            "Use the tokenizer that the model was trained with.",
        )


def _named_base(model: Any, source: str) -> str | None:
    """The base that the configuration names, if it can be had."""
    named = getattr(model.config, "base_model_name_or_path", None)
    if not isinstance(named, str) or named == source or not (Path(named).is_dir() or HUB_ID.fullmatch(named)):
        return None
    return named


def describe(loaded: LoadedModel) -> dict[str, Any]:
    """The model's entry in a manifest: no path but the one that the person gave."""
    return {
        "source": loaded.source,
        "fingerprint": loaded.fingerprint,
        "base": loaded.base_source,
        "base_fingerprint": loaded.base_fingerprint,
        "dtype": loaded.dtype,
        "method": loaded.tuned.method if loaded.tuned else None,
        "params": json.loads(json.dumps(loaded.tuned.params)) if loaded.tuned else None,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
    }
