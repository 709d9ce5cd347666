# SPDX-License-Identifier: Apache-2.0
"""Settings that name what a loader calls: Python's tags of YAML, and ``_target_`` of libraries that build objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TARGETS = ("_target_", "_callable_", "_call_")
HOMES = (
    *("torch.nn", "torch.optim", "torch.utils.data", "transformers", "diffusers", "peft", "timm", "torchvision"),
    *("sentence_transformers", "nemo", "lightning", "pytorch_lightning", "torchmetrics", "torchaudio", "megatron"),
)
"""Where the classes of honest settings come from."""
_CODE_TAG = re.compile(rb"!python/|tag:yaml\.org,2002:py|(?m:^%TAG)|(?<![\w./:!])[\w./:]*![\w./:!]*%[0-9a-fA-F]{2}")
"""Tags of Python in all their forms: short, whole, under another handle, with letters that are escaped.
Each pattern here begins where a word or a quote does, so that no file makes it read the same bytes time and again."""
_TARGET = re.compile(rb"[\"']?(?:_target_|_callable_|_call_)[\"']?\s*:\s*[\"']?([^\s\"',}#]+)")
_QUOTED_NAME = re.compile(rb"\"([^\"\n]*)(?=\"\s*:)")
_ESCAPED = re.compile(rb"\\(?:x5f|u005f|U0000005f)", re.IGNORECASE)
TAG_NOTE = "has tags that make Python objects when it is read"


def yaml_notes(raw: bytes) -> Iterator[tuple[str, bool]]:
    """Words on YAML settings that lead to code, and whether there is no other reading of them.

    >>> list(yaml_notes(b"net:\\n  _target_: os.system\\n"))
    [("_target_ names 'os.system', which a loader calls", False)]
    >>> list(yaml_notes(b"net:\\n  _target_: torch.nn.Linear\\n"))
    []
    """
    flat = raw.replace(b"\0", b"")  # of UTF-16
    if _CODE_TAG.search(flat):
        yield TAG_NOTE, True
    if any(_ESCAPED.search(match[1]) for match in _QUOTED_NAME.finditer(flat)):
        yield "writes the name of a setting with escapes, which hides it", False
    for match in _TARGET.finditer(flat):
        if note := target_note(match[1].decode("utf-8", "replace")):
            yield note, False


def target_note(value: Any) -> str:
    """Words on a target that is no class of a library of models; empty for one that is.

    A loader calls a target with whatever stands beside it, so functions count even where the library is known.
    """
    if not isinstance(value, str) or not value or value.startswith("$"):
        return ""
    last = value.rpartition(".")[2]
    is_class = any(value.startswith(f"{home}.") for home in HOMES) and last[:1].isupper()
    return "" if is_class else f"_target_ names {value[:80]!r}, which a loader calls"
