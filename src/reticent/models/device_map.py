# SPDX-License-Identifier: Apache-2.0
"""Places for the layers of a model that fits on no single device: GPUs, the host's memory, a folder.

Accelerate moves weights and hidden states about; here is decided, and checked before any weight is read, what goes
where. A map changes where numbers are computed, and on one kind of device none of them.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate.utils import get_balanced_memory, get_max_memory, infer_auto_device_map
from torch import nn
from transformers import AutoModelForCausalLM

from reticent.core.errors import BadInput
from reticent.core.memory_size import memory_by_device

BY_ITSELF = ("auto", "balanced")
"""Maps that follow from the model and the memory that is free."""
HEADROOM = 0.9
"""The share of the free memory that weights may take: hidden states and logits need the rest."""
LARGEST_FILE = 1 << 24

Place: TypeAlias = int | str
"""A GPU's number, ``"cpu"`` or ``"disk"``; others by their names."""


@dataclass(frozen=True, kw_only=True)
class DeviceMap:
    """A device map as a person asks for it.

    Args:
        where: ``"auto"`` or ``"balanced"``, which fill GPUs and then the host's memory; or a file of JSON, an object of
            names of modules (``"model.layers.0"``, ``""`` for all others) with a GPU's number, ``"cpu"`` or ``"disk"``.
        max_memory: as `reticent.core.memory_size.memory_by_device` takes it; empty for nine tenths of what is free.
        offload_folder: where what lies on ``"disk"`` may be written; empty for nothing on disk.

    Examples:
        >>> DeviceMap(where="auto", max_memory="cpu=60GiB").device
        'auto'
    """

    where: str
    max_memory: str = ""
    offload_folder: str = ""

    @property
    def device(self) -> str:
        """Where layers compute whose weights lie on no device that does, as `models.load.pick_device` takes it."""
        if self.where in BY_ITSELF:
            return "auto"
        computes = [place for place in self._file().values() if place not in ("cpu", "disk")]
        return _name(computes[0]) if computes else "cpu"

    def places(self, source: str, config: Any, dtype: torch.dtype) -> dict[str, Place]:
        """Module → place, each weight in exactly one of the modules.

        Args:
            source: of the model, for messages.
            config: of the model, which is built without weights.
            dtype: of the weights.

        Raises:
            BadInput: a layer would be nowhere, or on disk and no folder was named; a name is no module's; a block would
                compute on several devices.
        """
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        if self.where in BY_ITSELF:
            chosen = self._fitted(model, dtype)
        else:
            given = self._file()
            _refuse_unknown(self.where, model, given)
            chosen = given
        spread = _spread(self.where, model, chosen)
        _refuse_split(self.where, model, spread)
        if "disk" in spread.values() and not self.offload_folder:
            on_disk = sum(place == "disk" for place in spread.values())
            raise BadInput(
                source,
                f"has {on_disk} of its {len(spread)} weights on disk by --device_map {_short(self.where)}, and no "
                "folder was named for what lies there",
                "Give --offload_folder DIR, or more --max_memory.",
            )
        return _joined(model, spread)

    def arguments(self, places: Mapping[str, Place]) -> dict[str, Any]:
        """``places`` as ``from_pretrained`` takes them. Each model has a folder of its own below the named one.

        Raises:
            BadInput: the folder cannot be made.
        """
        more: dict[str, Any] = {"device_map": dict(places)}
        if "disk" in places.values():
            try:
                Path(self.offload_folder).mkdir(mode=0o700, parents=True, exist_ok=True)
                more["offload_folder"] = tempfile.mkdtemp(prefix="weights.", dir=self.offload_folder)
            except OSError as error:
                raise BadInput(
                    f"offload_folder={self.offload_folder}",
                    f"cannot be written to ({error.strerror})",
                    "Name a writable folder with room for the weights.",
                ) from error
        return more

    def _fitted(self, model: nn.Module, dtype: torch.dtype) -> dict[str, Place]:
        blocks = _uncut(model)
        memory: Any = memory_by_device(self.max_memory) or None
        if memory is None:
            memory = {device: int(HEADROOM * size) for device, size in get_max_memory().items()}
        memory = get_balanced_memory(model, max_memory=memory, no_split_module_classes=blocks, dtype=dtype)
        return dict(infer_auto_device_map(model, max_memory=memory, no_split_module_classes=blocks, dtype=dtype))

    def _file(self) -> dict[str, Place]:
        return read_device_map(Path(self.where))


def read_device_map(file: Path) -> dict[str, Place]:
    """A device map out of a file of JSON.

    Raises:
        BadInput: there is no such file, or it holds none.
    """
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ValueError("it is too large")
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
        if not isinstance(content, dict) or not content:
            raise ValueError("it is no object of modules and devices")
        if wrong := [value for value in content.values() if not _is_place(value)]:
            raise ValueError(f"{str(wrong[0])[:40]!r} is neither a GPU's number nor cpu nor disk")
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"--device_map {file}",
            f"is neither {' nor '.join(BY_ITSELF)} nor a file with a device map ({str(error).splitlines()[0][:120]})",
            'Give auto, or a JSON file such as {"model.embed_tokens": 0, "model.layers": "cpu", "": 0}.',
        ) from error
    return {name: _place(value) for name, value in content.items()}


def summary(model: Any) -> dict[str, int] | None:
    """How many modules of a model that was given a map lie at each place; None for one without a map."""
    places = getattr(model, "hf_device_map", None)
    if not places:
        return None
    names = [_name(place) for place in places.values()]
    return {name: names.count(name) for name in sorted(set(names))}


@contextmanager
def without_remarks() -> Iterator[None]:
    """Within this context Accelerate does not remark that weights lie where they were asked to lie."""
    log = logging.getLogger("accelerate.big_modeling")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def drop_with(model: Any, arguments: Mapping[str, Any]) -> None:
    """Remove the folder that ``model`` was given by `DeviceMap.arguments` when the model goes, or the process ends."""
    if "offload_folder" in arguments:
        weakref.finalize(model, shutil.rmtree, arguments["offload_folder"], ignore_errors=True)


# ---- what goes where -------------------------------------------------------------------------------------------------


def _refuse_unknown(where: str, model: nn.Module, given: Mapping[str, Place]) -> None:
    names = {name for name, _ in model.named_modules()} | set(model.state_dict())
    unknown = next((name for name in given if name not in names), None)
    if unknown is not None:
        raise BadInput(
            f"--device_map {where}",
            f"names {unknown[:80]!r}, and the model has no such module",
            "Name modules as in model.named_modules(), such as model.layers.0.",
        )


def _spread(where: str, model: nn.Module, given: Mapping[str, Place]) -> dict[str, Place]:
    """The place of each tensor: that of the innermost module that is given, tied ones together."""
    weights = model.state_dict(keep_vars=True)
    spread: dict[str, Place] = {}
    of_storage: dict[int, str] = {}
    for name, weight in weights.items():
        around = [".".join(name.split(".")[:depth]) for depth in range(name.count(".") + 1, -1, -1)]
        holder = next((module for module in around if module in given), None)
        if holder is None:
            raise BadInput(
                f"--device_map {where}",
                f"leaves {name!r} nowhere",
                'Give its module a device, or all others by the empty name: "": "cpu".',
            )
        spread[name] = given[holder]
        first = of_storage.setdefault(id(weight), name)
        if spread[first] != spread[name]:
            raise BadInput(
                f"--device_map {where}",
                f"puts {first!r} and {name!r}, which are one weight, in two places",
                "Give both modules one device.",
            )
    return spread


def _refuse_split(where: str, model: nn.Module, spread: Mapping[str, Place]) -> None:
    """Refuse blocks that would add up what lies on several devices."""
    for block, module in model.named_modules():
        if type(module).__name__ in _uncut(model):
            inside = {place for name, place in spread.items() if name.startswith(f"{block}.")}
            computing = inside - {"cpu", "disk"}  # the others compute on the first of the model's GPUs
            if len(computing) > 1 or (computing and computing != inside):
                raise BadInput(
                    f"--device_map {where}",
                    f"cuts {block!r} over several devices, and its parts are added up",
                    "Give each block one device.",
                )


def _joined(model: nn.Module, spread: Mapping[str, Place]) -> dict[str, Place]:
    """The same by as few modules as there can be."""

    def below(prefix: str, module: nn.Module) -> Iterator[tuple[str, Place]]:
        inside = {
            place for name, place in spread.items() if not prefix or name == prefix or name.startswith(f"{prefix}.")
        }
        if len(inside) == 1:
            yield prefix, inside.pop()
            return
        children = dict(module.named_children())
        for name, child in children.items():
            yield from below(f"{prefix}.{name}" if prefix else name, child)
        for name in (*module._parameters, *module._buffers):
            module_name = f"{prefix}.{name}" if prefix else name
            if module_name in spread:
                yield module_name, spread[module_name]

    return dict(below("", model))


def _uncut(model: Any) -> Sequence[str]:
    """Classes of modules that the library wants to be on one device each."""
    return sorted(getattr(model, "_no_split_modules", None) or ())


# ---- places ----------------------------------------------------------------------------------------------------------


def _is_place(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return value >= 0 if isinstance(value, int) else re.fullmatch(r"cpu|disk|\d{1,3}|cuda:\d{1,3}", value) is not None


def _place(value: int | str) -> Place:
    """GPUs by number, however they are written."""
    number = str(value).removeprefix("cuda:")
    return int(number) if number.isdecimal() else str(value)


def _name(place: Any) -> str:
    return f"cuda:{place}" if isinstance(place, int) else str(place)


def _short(where: str) -> str:
    return where if where in BY_ITSELF else Path(where).name


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice[:80]!r} stands there twice")
    return dict(pairs)
