# SPDX-License-Identifier: Apache-2.0
"""Flags as people write them: with hyphens or underscores, under Hugging Face's names, with a slip of the finger.

A flag of the verb is spelt as the parser knows it; another is refused in two lines with the nearest one,
before any parser prints a page of usage.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from reticent.cli import names
from reticent.core.errors import BadInput

TRUE_OR_FALSE = {"true", "false", "yes", "no", "on", "off"}
ALWAYS = ("help", "help_all", "config", "print_config", "version")
MOST_ALIASES = 50
"""YAML references in a file of settings; a few lines of them can stand for more text than fits into memory."""
LARGEST_CONFIG = 1 << 20

_TRAINING = {
    "model_name_or_path": "model",
    "model_name": "model",
    "base": "model",
    "base_model": "model",
    "output_dir": "out",
    "output": "out",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "lr": "learning_rate",
    "warmup_ratio": "warmup",
    "lr_scheduler": "lr_scheduler_type",
    "scheduler": "lr_scheduler_type",
    "max_seq_length": "max_tokens",
    "max_seq_len": "max_tokens",
    "max_length": "max_tokens",
    "model_max_length": "max_tokens",
    "target_epsilon": "epsilon",
    "target_delta": "delta",
    "train_file": "data",
    "dataset": "data",
    "dataset_name": "data",
    "dataset_path": "data",
    "data_path": "data",
    "watch": "monitor",
}
ALIASES: Mapping[str, Mapping[str, str]] = {
    "tune": _TRAINING,
    "compare": _TRAINING
    | {
        "lr_scheduler_type": "lr_scheduler_types",
        "lr_scheduler": "lr_scheduler_types",
        "scheduler": "lr_scheduler_types",
    },
    "prepare": {"output": "out", "output_dir": "out", "output_file": "out", "dataset": "data", "input": "data"},
    "audit": {
        "model_name_or_path": "model",
        "model_name": "model",
        "base": "reference",
        "base_model": "reference",
        "reference_model": "reference",
        "output_dir": "out",
        "output": "out",
        "train_file": "members",
        "test_file": "held_out",
        "validation_file": "held_out",
        "non_members": "held_out",
        "nonmembers": "held_out",
        "max_length": "max_tokens",
        "max_seq_length": "max_tokens",
    },
}
"""Other names of flags, by verb; ``watch`` is there because torchrun takes ``--monitor`` for a flag of its own."""

_LORA = """Give --method lora --method_params '{"r": 8, "alpha": 16}'."""
_EPOCHS = "Losses are logged, and checkpoints kept, after each epoch; --every looks more often."
POINTERS: Mapping[str, str] = {
    "gradient_accumulation_steps": "A step is one batch of --batch_size records, however much memory there is.",
    "fp16": "Give --dtype bfloat16.",
    "bf16": "Give --dtype bfloat16.",
    "torch_dtype": "Give --dtype float32 or bfloat16.",
    "lora_r": _LORA,
    "lora_alpha": _LORA,
    "lora_dropout": _LORA,
    "use_peft": _LORA,
    "max_grad_norm": "Give --clip_batch, or in private training --clip_norm.",
    "optim": "Give --optimizer adamw or sgd.",
    "logging_steps": _EPOCHS,
    "save_steps": _EPOCHS,
    "eval_steps": _EPOCHS,
    "save_strategy": _EPOCHS,
    "eval_strategy": _EPOCHS,
    "evaluation_strategy": _EPOCHS,
    "lr_scheduler_kwargs": "Schedules are those without settings of their own: --lr_scheduler_type.",
    "overwrite_output_dir": "Choose another --out, or train the same once more with --resume false.",
    "resume_from_checkpoint": "The same command again goes on by itself.",
    "validation_file": "Records are kept out by coin: --probability.",
    "validation_split": "Records are kept out by coin: --probability.",
    "do_train": "That is what reticent tune does.",
    "trust_remote_code": "No code that comes with a model or data is ever run.",
    "use_cpu": "Give --device cpu.",
    "no_cuda": "Give --device cpu.",
    "load_in_8bit": "Give reticent tune --load_in 8bit; audits read weights as they are.",
    "load_in_4bit": "Give reticent tune --load_in 4bit; audits read weights as they are.",
}
"""Flags of other tools that have no counterpart of the same meaning, and what there is instead."""


def hints(verb: Callable[..., int]) -> dict[str, Any]:
    """The type of each flag of a verb, those of its dataclasses included."""
    settings: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(verb).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            settings |= typing.get_type_hints(hint)
        elif name != "return":
            settings[name] = hint
    return settings


def defaults(verb: Callable[..., int]) -> dict[str, Any]:
    """The default of each flag that has one."""
    settings: dict[str, Any] = {}
    kinds = typing.get_type_hints(verb)
    for name, parameter in inspect.signature(verb).parameters.items():
        if isinstance(kinds[name], type) and dataclasses.is_dataclass(kinds[name]):
            settings |= {field.name: field.default for field in dataclasses.fields(kinds[name])}
        elif parameter.default is not parameter.empty:
            settings[name] = parameter.default
    return settings


def positional(verb: Callable[..., int]) -> set[str]:
    """Names of the parameters before the ``*``."""
    kinds = inspect.signature(verb).parameters.values()
    return {parameter.name for parameter in kinds if parameter.kind is not parameter.KEYWORD_ONLY}


def spelt(argv: Sequence[str], name: str, verb: Callable[..., int]) -> list[str]:
    """The words behind the verb ``name``, each flag as the parser knows it.

    Raises:
        BadInput: a word that begins with ``--`` is no flag of the verb; names the near one, or what there is instead.
    """
    fields, words, done = hints(verb), list(argv), []
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) == 2:
            done.append(word)
            continue
        flag, equals, value = word[2:].partition("=")
        flag = flag.replace("-", "_")
        field = names.field_of(flag, name, verb, fields)
        field = ALIASES.get(name, {}).get(field, field) if field not in fields else field
        if field.startswith("no_") and fields.get(field[3:]) is bool and field not in fields:
            done.append(f"--{field[3:]}=false")
            continue
        if field.partition(".")[0].rstrip("+") not in fields and field not in ALWAYS:
            others = [*names.SHOWN.get(name, {}).values(), *ALIASES.get(name, {})]
            raise _unknown(f"--{flag}", f"no flag of reticent {name}", flag, [*fields, *others], name)
        if field in positional(verb):
            value = value if equals else (words.pop(0) if words else "")
            done.append(value)
        elif fields.get(field) is bool and not equals:
            given = bool(words) and words[0].lower() in TRUE_OR_FALSE
            done.append(f"--{field}={words.pop(0).lower() if given else 'true'}")
        else:
            value = value if equals else (words[0] if words else "")
            whole = _whole(value) if fields.get(field) in (int, int | None) and field != flag else value
            if not equals and whole != value:
                words.pop(0)
            done.append(f"--{field}={whole}" if equals or whole != value else f"--{field}")
    return done


def _whole(value: str) -> str:
    """``"3"`` for ``"3.0"``, as other tools count epochs."""
    head, dot, tail = value.partition(".")
    return head if dot and head.isdecimal() and not tail.strip("0") else value


def _unknown(given: str, what: str, word: str, fields: Sequence[str], name: str, dashes: str = "--") -> BadInput:
    if word in POINTERS and name in ("tune", "compare", "audit"):
        return BadInput(given, f"is {what}", POINTERS[word])
    near = difflib.get_close_matches(word, fields, n=1, cutoff=0.6)
    if not near:
        near = [other for other in fields if word and (other.startswith(word) or word.startswith(other))][:1]
    hint = f"Did you mean {dashes}{near[0]}?" if near else "Check the name."
    return BadInput(given, f"is {what}", f"{hint}\nSee reticent {name} --help.")


def refuse_verb(word: str, verbs: Sequence[str]) -> BadInput:
    """The refusal of a first word that is no verb."""
    near = difflib.get_close_matches(word, verbs, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Verbs: {', '.join(verbs)}."
    return BadInput(repr(word[:100]), "is no verb of reticent", f"{hint}\nSee reticent --help.")


def read_config(path: str, name: str, verb: Callable[..., int]) -> str:
    """A file of settings as the parser takes it: its path, or where it names settings otherwise than by their fields,
    all of them as JSON.

    Raises:
        BadInput: it cannot be read, is too large, is no YAML mapping, or has such a key.
    """
    given = f"--config {path[:200]}"
    fix = "Give a YAML file such as {epochs: 3}."
    try:
        if not Path(path).is_file():
            raise BadInput(given, "is no file", "Check the path.")
        if Path(path).stat().st_size > LARGEST_CONFIG:
            raise BadInput(given, "is larger than any file of settings", fix)
        text = Path(path).read_text(encoding="utf-8-sig")
        check_aliases(given, text)
        settings = yaml.safe_load(text)
    except OSError as error:
        raise BadInput(given, f"cannot be read ({error.strerror})", "Check the path.") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise BadInput(given, f"is no YAML{where}", fix) from error
    if not isinstance(settings, dict):
        raise BadInput(given, "is no mapping of flags to values", fix)
    fields = hints(verb)
    flat = names.flattened(settings, name, verb, fields)
    for key in flat:
        if key not in fields:
            raise _unknown(f"{given}: {key!r}", f"no flag of reticent {name}", key, list(fields), name, dashes="")
    return path if flat == settings else json.dumps(flat)


def check_aliases(given: str, text: str) -> None:
    """Refuse YAML that refers to itself so often that it can only be meant to fill the memory.

    Raises:
        BadInput: it does.
    """
    if text.count("*") <= MOST_ALIASES:
        return
    aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
    if aliases > MOST_ALIASES:
        raise BadInput(given, f"has {aliases} references (*name)", f"Write it with {MOST_ALIASES} at most.")


def wanted(hint: Any) -> str:
    """A value of this type, in words."""
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        parts = [candidate for candidate in typing.get_args(hint) if candidate is not type(None)]
        return " or ".join(map(wanted, parts))
    base = typing.get_origin(hint) or hint
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        dict: 'an object such as {"r": 8}',
    }
    return names.get(base, getattr(base, "__name__", str(base)))
