# SPDX-License-Identifier: Apache-2.0
"""Find the verbs, build their flags from their signatures, run one, and turn its outcome into an exit code.

A verb is a file in this folder with a function of the same name that returns an exit code (0 done, 1 gate failed,
2 bad input). Parameters before the ``*`` are positional; a parameter that is a dataclass becomes a group of flags.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib
import inspect
import pkgutil
import sys
import typing
from argparse import SUPPRESS
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser, Namespace

import reticent
from reticent.core.errors import BadInput, ReticentError
from reticent.core.processes import refuse_several
from reticent.core.progress import console

Verb = Callable[..., int]

UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR}
"""What a person can mend. Any other error of the system is a fault of this package and keeps its traceback."""


HARMLESS = {"env"}
"""Verbs that may run in any number of processes at once: they neither train nor write."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    argv = _underscored(sys.argv[1:] if argv is None else argv)
    verbs = _verbs()
    parser = _parser(verbs, chosen=next((word for word in argv if not word.startswith("-")), None))
    options = parser.parse_args(argv)
    if options.subcommand is None:
        parser.print_help()
        return 2
    verb = verbs[options.subcommand]
    try:
        if options.subcommand not in HARMLESS:
            refuse_several(f"reticent {options.subcommand}")
        return verb(**_arguments(verb, options[options.subcommand]))
    except ReticentError as error:
        console.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        where = error.filename or "a file"
        message = f"error: {where}: cannot be used ({error.strerror}). Check the path, its permissions and free space."
        console.print(message, style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on where it was", style="yellow")
        return 130


def _verbs() -> dict[str, Verb]:
    package = importlib.import_module("reticent.cli")
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "main"]
    return {
        name.replace("_", "-"): getattr(importlib.import_module(f"reticent.cli.{name}"), name) for name in sorted(names)
    }


def _parser(verbs: dict[str, Verb], chosen: str | None) -> ArgumentParser:
    """The whole parser; only the chosen verb gets its flags, so that `--help` stays quick."""
    parser = ArgumentParser(prog="reticent", description=reticent.__doc__, version=reticent.__version__)
    subcommands = parser.add_subcommands(required=False, metavar="VERB", title="verbs")
    for name, verb in verbs.items():
        doc = inspect.getdoc(verb) or ""
        description = doc.split("\nArgs:")[0].strip()
        sub = ArgumentParser(description=description)
        if name == chosen:
            _add_flags(sub, verb)
        subcommands.add_subcommand(name, sub, help=description.splitlines()[0])
    return parser


def _add_flags(parser: ArgumentParser, verb: Verb) -> None:
    groups = _groups(verb)
    parser.add_argument("--config", action="config", help="YAML file with any of these flags")
    parser.add_function_arguments(verb, skip=set(groups), as_positional=True, as_group=False)
    for group in groups.values():
        parser.add_class_arguments(group, None)
    positional = _positional(verb)
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:
            action.nargs, action.const = "?", True
        if action.dest in positional:  # may be left out here, since --config may give it
            for flag in action.option_strings:
                del parser._option_string_actions[flag]
            action.option_strings, action.nargs, action.default, action.required = [], "?", SUPPRESS, False


def _arguments(verb: Verb, options: Namespace) -> dict[str, Any]:
    """The verb's arguments; flags of a dataclass are put back together."""
    groups = _groups(verb)
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in groups:
            fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(groups[name])}
            given[name] = groups[name](**fields)
            continue
        given[name] = getattr(options, name, parameter.default)
        if given[name] is parameter.empty:
            label = verb.__name__.replace("_", "-")
            raise BadInput(f"reticent {label}", f"{name} is missing", f"See reticent {label} --help.")
    return given


def _groups(verb: Verb) -> dict[str, type]:
    hints = typing.get_type_hints(verb)
    return {
        name: hints[name]
        for name in inspect.signature(verb).parameters
        if isinstance(hints[name], type) and dataclasses.is_dataclass(hints[name])
    }


def _positional(verb: Verb) -> set[str]:
    """Names of the parameters before the ``*``."""
    kinds = inspect.signature(verb).parameters.values()
    return {parameter.name for parameter in kinds if parameter.kind is not parameter.KEYWORD_ONLY}


def _underscored(argv: list[str]) -> list[str]:
    """Accept ``--max-auc`` for ``--max_auc``: both habits are common."""
    return [
        "--" + word[2:].split("=", 1)[0].replace("-", "_") + word[len(word.split("=", 1)[0]) :]
        if word.startswith("--") and len(word) > 2
        else word
        for word in argv
    ]


if __name__ == "__main__":
    sys.exit(main())
