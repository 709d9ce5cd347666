# SPDX-License-Identifier: Apache-2.0
"""A verb is one file in the folder of verbs: listed, with help and flags of its own, refused where it is mistyped."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from reticent import cli
from reticent.cli import main

VERB = '''
# SPDX-License-Identifier: Apache-2.0
"""`reticent greet`: says hello."""

from __future__ import annotations

from reticent.core.errors import BadInput


def command(name: str, *, times: int = 1) -> int:
    """Say hello to somebody.

    Args:
        name: whom to greet.
        times: how often.
    """
    if times < 1:
        raise BadInput(f"times={times}", "greets nobody", "Give 1 or more.")
    print(" ".join(["hello", name] * times))
    return 0
'''


def test_a_verb_is_one_file(tmp_path: Path, in_a_fork: Callable[[Callable[[], None]], int]) -> None:
    folder = tmp_path / "cli"
    folder.mkdir()
    (folder / "greet.py").write_text(VERB.lstrip(), encoding="utf-8")

    def work() -> None:
        os.environ["COLUMNS"] = "200"
        cli.__path__.append(str(folder))
        for made in (main._verbs, main._parser_of):
            made.cache_clear()
        greeted()

    assert in_a_fork(work) == 0


def run(*words: str) -> tuple[int, str]:
    """Exit code, and all that is printed."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            code = main.main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
    return code, printed.getvalue()


def greeted() -> None:
    assert "greet" in run("--help")[1]
    shown = run("greet", "--help")[1]
    assert "Say hello to somebody." in shown
    assert "how often" in shown
    code, printed = run("greet", "ana", "--times", "2")
    assert (code, printed.strip()) == (0, "hello ana hello ana")
    assert run("greet", "ana", "--times", "0")[0] == 2
    code, printed = run("gret", "ana")
    assert code == 2
    assert "greet" in printed
