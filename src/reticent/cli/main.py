# SPDX-License-Identifier: Apache-2.0
"""Find the verbs, build their flags from their signatures, run one, and turn its outcome into an exit code.

A verb is a file in this folder with a function ``command`` that returns an exit code (0 done, 1 gate failed, 2 bad
input). Parameters before the ``*`` are positional; a parameter that is a dataclass becomes a group of flags. Where the
file names a few flags as ``USUAL``, ``--help`` shows those, and ``--help_all`` all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import os
import pkgutil
import re
import sys
import traceback
import typing
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

import reticent
from reticent.cli import flags, names
from reticent.core.errors import BadInput, ReticentError
from reticent.core.printable import printable
from reticent.core.processes import HARMLESS, SHARED, EndedElsewhere, refuse_several
from reticent.core.progress import console
from reticent.train.leading import led

Verb = Callable[..., int]

FRAME = {"main", "flags", "names"}
"""Modules of this folder that are no verbs."""

TRACEBACK = "RETICENT_TRACEBACK"
"""An environment variable: set, faults of this package are shown whole. They may quote private text."""
MOST_ERROR = 10_000
"""Characters of a line of an error."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(argv)
    except EndedElsewhere as error:  # another process of this command says why
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        return error.exit_code
    except ReticentError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on where it was", style="yellow")
        return 130
    except BrokenPipeError:  # whoever read the output had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if os.environ.get(TRACEBACK):
            raise
        where = str(error.filename)[:200] if error.filename else "a file or a connection"
        _say(f"{where}: cannot be used ({error.strerror or error}). Check the path, its permissions and free space.")
        return 2
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _say(_fault(error))
        return 2


def _run(argv: list[str]) -> int:
    verbs = _verbs()
    place = next((i for i, word in enumerate(argv) if not word.startswith("-")), None)
    chosen = None if place is None else argv[place]
    if place is not None and chosen is not None:
        if chosen not in verbs:
            raise flags.refuse_verb(chosen, sorted(verbs))
    else:
        argv = ["--help" if word in ("--help_all", "--help-all") else word for word in argv]
    read = functools.cache(lambda: _read(argv, chosen, place))
    if chosen in SHARED:
        return led(f"reticent {chosen}", read, lambda: _begin(read()))
    return _begin(read())


def _begin(command: tuple[str, dict[str, Any]] | None) -> int:
    if command is None:
        _parser_of(None).print_help()
        return 2
    name, arguments = command
    return _verbs()[name](**arguments)


def _read(argv: list[str], chosen: str | None, place: int | None) -> tuple[str, dict[str, Any]] | None:
    """The verb and its arguments; None where there is no verb.

    Args:
        argv: all words.
        chosen: the verb among them, which is known to be one.
        place: where it stands.
    """
    verbs = _verbs()
    if chosen is not None and place is not None:
        argv = [*argv[: place + 1], *flags.spelt(argv[place + 1 :], chosen, verbs[chosen])]
        argv = _with_configs(argv, chosen, verbs[chosen])
    parser = _parser_of(chosen)
    try:
        name, options = _parsed(parser, argv, chosen if place == 0 else None)
    except (ArgumentError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _unparsed(error, argv, chosen, verbs) from error
    if name is None or options is None:
        return None
    if name not in HARMLESS | SHARED:
        refuse_several(f"reticent {name}")
    return name, _arguments(verbs[name], options, name)


def _parsed(parser: ArgumentParser, argv: list[str], first: str | None) -> tuple[str | None, Namespace | None]:
    """The verb and its options. A verb that comes first is read by its own parser: the whole one would also look
    through the parsers of all other verbs, which takes as long again."""
    if first is not None:
        return first, parser._subcommands_action.choices[first].parse_args(argv[1:])
    options = parser.parse_args(argv)
    return options.subcommand, options.get(options.subcommand) if options.subcommand else None


def _say(message: str) -> None:
    lines = "\n".join(printable(line, most=MOST_ERROR) for line in message.split("\n"))  # names may be anything
    console.print(f"error: {lines}", style="bold red", markup=False, highlight=False, soft_wrap=True)


def _fault(error: Exception) -> str:
    """The words for an error that nobody expected: never its message, which may quote private text."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "not enough memory" in str(error):
        return "memory: there is not enough of it. Give a smaller --batch_size or --max_tokens, or a smaller model."
    place = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in place if "reticent" in Path(frame.filename).parts] or place
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "an unknown place"
    return (
        f"reticent: failed where it should have said why ({name} at {where}). Please report this, with your command; "
        f"{TRACEBACK}=1 shows all of it, which may quote your texts."
    )


def _with_configs(argv: list[str], name: str, verb: Verb) -> list[str]:
    """The words, with files of settings as the parser takes them. Looks through those, and through objects on the
    command line, before a parser does."""
    words, done = list(argv), []
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag == "--config":
            value = value if equals else (words.pop(0) if words else "")
            word = f"--config={flags.read_config(value, name, verb)}"
        elif flag.startswith("--"):
            flags.check_aliases(flag, value if equals else "".join(words[:1]))
        done.append(word)
    return done


def _unparsed(error: Exception, argv: list[str], name: str | None, verbs: dict[str, Verb]) -> BadInput:
    """The refusal of what the parser could not read, in two lines: it prints pages."""
    text = str(error)
    help_ = f"See reticent {name} --help." if name else "See reticent --help."
    key = re.search(r'Parser key "([^"]+)"|argument (?:--)?([\w./]+)', text)
    flag = (key[1] or key[2]).split(".")[-1] if key else ""
    kinds = flags.hints(verbs[name]) if name in verbs else {}
    shown = names.SHOWN.get(name or "", {})
    flag = next((field for field, word in shown.items() if word == flag), flag)
    if flag in kinds:
        given = _given(argv, flag)
        problem = (
            "needs a value" if "expected" in text and "argument" in text else f"must be {flags.wanted(kinds[flag])}"
        )
        return BadInput(
            f"--{shown.get(flag, flag)}{'' if given is None else f' {given[:80]}'}", problem, f"Correct it.\n{help_}"
        )
    words = text.partition("unrecognized arguments:")[2].split()
    if words:
        return BadInput(" ".join(words)[:100], "is one word too many for this command", f"Check the order.\n{help_}")
    return BadInput("the command", f"cannot be read ({' '.join(text.split())[:200]})", f"Check it.\n{help_}")


def _given(argv: list[str], flag: str) -> str | None:
    """The word behind the flag."""
    for word, follows in zip(argv, [*argv[1:], None], strict=True):
        if word == f"--{flag}":
            return follows
        if word.startswith(f"--{flag}="):
            return word.partition("=")[2]
    return None


@functools.cache
def _verbs() -> dict[str, Verb]:
    package = importlib.import_module("reticent.cli")
    files = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in FRAME]
    modules = {name: importlib.import_module(f"reticent.cli.{name}") for name in sorted(files)}
    return {
        name.replace("_", "-"): getattr(module, "command", None) or getattr(module, name)
        for name, module in modules.items()
    }


@functools.cache
def _parser_of(chosen: str | None) -> ArgumentParser:
    """``_parser`` of all verbs, made once."""
    return _parser(_verbs(), chosen, exits=False)


def _parser(verbs: dict[str, Verb], chosen: str | None, *, exits: bool = True) -> ArgumentParser:
    """The whole parser; only the chosen verb gets its flags, so that `--help` stays quick.

    Args:
        exits: end the process over what cannot be parsed, instead of raising ``ArgumentError``.
    """
    about = f"{(reticent.__doc__ or '').splitlines()[0]} Begin with: reticent demo"
    parser = ArgumentParser(prog="reticent", description=about, version=reticent.__version__, exit_on_error=exits)
    subcommands = parser.add_subcommands(required=False, metavar="VERB", title="verbs")
    for name, verb in verbs.items():
        doc = inspect.getdoc(verb) or ""
        description = doc.split("\nArgs:")[0].strip()
        sub = ArgumentParser(description=description, exit_on_error=exits)
        if name == chosen:
            _add_flags(sub, verb, name)
        subcommands.add_subcommand(name, sub, help=description.splitlines()[0])
    return parser


class _HelpAll(Action):
    """Prints the help with all flags in it."""

    def __call__(self, parser: Any, *_given: Any) -> None:
        short = [(action, action.help) for action in parser._actions]
        epilog, parser.epilog = parser.epilog, None
        for action, _ in short:
            action.help = getattr(action, "whole_help", action.help)
        try:
            parser.print_help()
        finally:
            parser.epilog = epilog
            for action, text in short:
                action.help = text
        parser.exit()


def _show_usual(parser: ArgumentParser, usual: tuple[str, ...], name: str, verb: Verb) -> None:
    """Leave the help of all but the usual flags to ``--help_all``."""
    shown = {*usual, "help", "help_all", "config"}
    hidden = [action for action in parser._actions if action.option_strings and action.dest not in shown]
    for action in hidden:
        action.whole_help, action.help = action.help, SUPPRESS
    examples = ", ".join(f"--{group}.{next(iter(fields))}" for group, fields in names.groups(name, verb).items())
    parser.epilog = (
        f"{len(hidden)} more flags: reticent {name} --help_all. Flags can be named below their group ({examples}) and "
        "put into a YAML file (--config)."
    )


def _add_flags(parser: ArgumentParser, verb: Verb, name: str) -> None:
    groups = _groups(verb)
    parser.add_argument("--config", action="config", help="YAML file with any of these flags")
    parser.add_function_arguments(verb, skip=set(groups), as_positional=True, as_group=False)
    for group in groups.values():
        parser.add_class_arguments(_resolved(group), None)
    positional = flags.positional(verb)
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:
            action.nargs, action.const = "?", True
        if action.dest in positional:  # may be left out here, since --config may give it
            for flag in action.option_strings:
                del parser._option_string_actions[flag]
            action.option_strings, action.nargs, action.default, action.required = [], "?", SUPPRESS, False
            if action._typehint == str | None:
                action._typehint = str  # a folder may be named null, which otherwise is read as nothing
        word = names.SHOWN.get(name, {}).get(action.dest)
        if word is not None:
            action.option_strings, action.metavar = [f"--{word}"], word.upper()
            parser._option_string_actions[f"--{word}"] = action
    usual = getattr(sys.modules[verb.__module__], "USUAL", ())
    more = "Show all flags and exit." if usual else SUPPRESS
    parser.add_argument("--help_all", action=_HelpAll, nargs=0, default=SUPPRESS, help=more)
    if usual:
        _show_usual(parser, usual, name, verb)


def _resolved(group: type) -> type:
    """The dataclass with types for the names of types. Where a module imports something for type checkers alone, the
    parser would import that to know the names: an accountant of privacy, for one, which takes a second."""
    hints = typing.get_type_hints(group)
    fields = [
        (item.name, hints[item.name], dataclasses.field(default=item.default, default_factory=item.default_factory))
        for item in dataclasses.fields(group)
    ]
    plain = dataclasses.make_dataclass(group.__name__, fields, kw_only=True)
    plain.__doc__, plain.__module__ = group.__doc__, __name__
    return plain


def _arguments(verb: Verb, options: Namespace, label: str) -> dict[str, Any]:
    """The verb's arguments; flags of a dataclass are put back together."""
    groups = _groups(verb)
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in groups:
            fields = {
                field.name: _checked(field.name, getattr(options, field.name), field.default)
                for field in dataclasses.fields(groups[name])
            }
            given[name] = groups[name](**fields)
            continue
        given[name] = getattr(options, name, parameter.default)
        if given[name] is parameter.empty:
            raise BadInput(f"reticent {label}", f"{name} is missing", f"See reticent {label} --help.")
        _checked(name, given[name], parameter.default)
    return given


def _groups(verb: Verb) -> dict[str, type]:
    hints = typing.get_type_hints(verb)
    return {
        name: hints[name]
        for name in inspect.signature(verb).parameters
        if isinstance(hints[name], type) and dataclasses.is_dataclass(hints[name])
    }


def _checked(name: str, value: Any, default: Any) -> Any:
    """``value``, unless it is a word that says nothing: what an unset variable of a shell gives.

    Raises:
        BadInput: it is empty, or only commas, or holds what no path or name can.
    """
    if isinstance(value, str) and value != default:
        if not value.strip(" \t\r\n,"):
            raise BadInput(f"--{name} {value!r}", "is empty", "Give a value; a variable of the shell may be unset.")
        if "\0" in value:
            raise BadInput(f"--{name}", "holds a NUL character", "Give it without.")
    return value


def _underscored(argv: list[str]) -> list[str]:
    """``--max_auc`` for ``--max-auc``: both habits are common."""
    spelt = []
    for word in argv:
        flag, equals, value = word.partition("=")
        spelt.append(f"--{flag[2:].replace('-', '_')}{equals}{value}" if flag.startswith("--") else word)
    return spelt


if __name__ == "__main__":
    sys.exit(main())
