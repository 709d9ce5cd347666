# SPDX-License-Identifier: Apache-2.0
"""What README.md and docs/*.md say of links, verbs, flags, layers and code is so."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import reticent
from reticent.cli import main as cli
from reticent.data import help_desk
from reticent.testing.tiny import save_tiny

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHER_TOOLS = ("pip", "pytest", "python", "git", "make", "pre-commit", "cd")
"""Lines of shell that begin with one of these have flags of their own."""

BLOCK = re.compile(r"^ *```([^\n]*)\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
VERBS = set(cli._verbs())


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=named)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks whose info string is exactly ``language``."""
    return [body for info, body in BLOCK.findall(page.read_text(encoding="utf-8")) if info.strip() == language]


def programs(page: Path) -> list[str]:
    """Python of a reader's own. A block that begins with a path below src/ is a file of this package: compiled only."""
    return [block for block in blocks(page, "python") if not block.startswith("# src/reticent/")]


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives to headings: lower case, marks dropped, blanks to hyphens."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def shell_lines(page: Path) -> list[list[str]]:
    """Words of every command in a shell block, continued lines joined, comments dropped."""
    found = []
    for language in ("bash", "sh", "shell", "console"):
        for block in blocks(page, language):
            joined = re.sub(r"\\\n", " ", block)
            lines = (line.strip().removeprefix("$ ") for line in joined.splitlines())
            found += [words for line in lines if (words := shlex.split(line, comments=True))]
    return found


def private_imports(code: str) -> list[str]:
    """Names of this package that the code imports and that are not public.

    Public are the names in the ``__all__`` of `reticent`, of a module of its second tier, or of something below one.
    """
    private = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        ours = ((module, name) for module, name in names if module.partition(".")[0] == "reticent")
        private += [f"{module}.{name}" for module, name in ours if not is_public(module, name)]
    return private


def is_public(module: str, name: str | None) -> bool:
    if module != "reticent" and module.split(".")[1] not in reticent.__all__:
        return False
    listed = getattr(importlib.import_module(module), "__all__", None)
    return listed is not None and (name is None or name in listed)


@functools.cache
def flags_of(verb: str) -> set[str]:
    """A parser takes long to make, and every page asks for those of all verbs."""
    parser = cli._parser(cli._verbs(), chosen=verb)
    subparser = parser._subcommands_action._name_parser_map[verb]  # type: ignore[union-attr]
    return {option for action in subparser._actions for option in action.option_strings}


def underscored(flag: str) -> str:
    return cli._underscored([flag])[0]


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: no {target}"
        if anchor:
            assert anchor in anchors(place), f"{page.name}: {place.name} has no heading #{anchor}"


@pages
def test_commands_are_understood(page):
    """Every ``reticent …`` line of a shell block is one that the real parser takes."""
    for words in shell_lines(page):
        if words[0] != "reticent":
            continue
        assert len(words) > 1, "no verb"
        assert words[1] in VERBS, " ".join(words)
        argv = cli._underscored(words[1:])
        try:
            cli._parser(cli._verbs(), chosen=words[1]).parse_args(argv)
        except SystemExit as stop:
            pytest.fail(f"{page.name}: {' '.join(words)} exits with {stop.code}")


@pages
def test_verbs_in_prose_exist(page):
    text = page.read_text(encoding="utf-8")
    for verb in re.findall(r"`reticent ([a-z][\w-]*)", text):
        assert verb in VERBS, f"{page.name}: no verb {verb!r}"


@pages
def test_flags_in_prose_exist(page):
    known = {flag for verb in VERBS for flag in flags_of(verb)}
    for span in re.findall(r"`([^`\n]+)`", prose(page)):
        words = span.split()
        if words[0] in OTHER_TOOLS:
            continue
        allowed = flags_of(words[1]) if words[0] == "reticent" and words[1:2] and words[1] in VERBS else known
        for flag in FLAG.findall(span):
            assert underscored(flag) in allowed, f"{page.name}: no flag {flag!r} in `{span}`"


@pages
def test_flags_are_spelt_one_way(page):
    """With underscores, as in Python and in files of settings; the command line takes hyphens as well."""
    own = {flag for verb in VERBS for flag in flags_of(verb)}
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.strip().removeprefix("$ ").split(" ", 1)[0] in OTHER_TOOLS:
            continue
        for flag in FLAG.findall(line):
            other = underscored(flag)
            assert flag == other or other not in own, f"{page.name}: {flag} is spelt {other} elsewhere"


@pages
def test_python_compiles(page):
    for number, block in enumerate(blocks(page, "python"), start=1):
        compile(block, f"{page.name}, block {number}", "exec")


@pages
def test_python_imports_public_names_only(page):
    for block in programs(page):
        assert not private_imports(block), page.name


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=named)
def test_examples_import_public_names_only(path):
    assert not private_imports(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=named)
def test_notebooks_import_public_names_only_and_hold_no_output(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not private_imports("".join(cell["source"]))
            assert not cell["outputs"]


TRAIN = ("private_training.md", "memorization.md", "quick_start.md")
"""Pages whose programs train and audit: tens of seconds."""


def weighed(page):
    """The page as a parameter, marked where it is slow."""
    return pytest.param(page, marks=pytest.mark.slow if page.name in TRAIN else ())


HERE = ("README.md", "scanning.md")
"""Pages whose programs register nothing, so that they do without a fork."""


@pytest.mark.parametrize("page", [weighed(page) for page in PAGES if programs(page)], ids=named)
def test_python_runs(page, tmp_path, monkeypatch, in_a_fork):
    """One block after the other, in a fork, for they may register things (but see ``HERE``). A block that begins with
    the name of a file is that file.

    The folder holds a tiny model under the name of the catalogue's, and made-up mails.
    """
    save_tiny(tmp_path / "smollm2-135m")
    mails = ((" ".join(mail.plain.split()[:10]), mail.user) for mail in help_desk(users=80, mails_per_user=4))
    rows = ({"body": body, "sender": user} for body, user in mails)
    (tmp_path / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code = []
    for block in programs(page):
        file = re.match(r"# (\w+)\.py\n", block)
        if file:
            (tmp_path / f"{file[1]}.py").write_text(block, encoding="utf-8")
        code.append(f"import {file[1]}\n" if file else block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def work():
        exec("\n".join(code), {"__name__": "__main__"})

    if page.name in HERE:
        work()
    else:
        assert in_a_fork(work) == 0


def test_the_layers_are_those_that_are_checked():
    (said,) = blocks(ROOT / "docs" / "architecture.md", "layers")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [one for one in settings["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    assert said.split("\n")[:-1] == contract["layers"]


def test_every_page_is_in_the_map():
    for index in (ROOT / "docs" / "index.md", ROOT / "docs" / "results" / "index.md"):
        page = index.read_text(encoding="utf-8")
        others = {other.name for other in index.parent.glob("*.md")} - {"index.md"}
        assert not [name for name in sorted(others) if f"({name})" not in page], index


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("[there](nowhere.md)", test_links_lead_somewhere),
        ("[there](#nothing)", test_links_lead_somewhere),
        ("```bash\nreticent gate runs/x --max_auk 1\n```", test_commands_are_understood),
        ("```bash\nreticent guess runs/x\n```", test_commands_are_understood),
        ("see `reticent guess`", test_verbs_in_prose_exist),
        ("give `--max_auk`", test_flags_in_prose_exist),
        ("give `--max-auc`", test_flags_are_spelt_one_way),
        ("```bash\nreticent gate runs/x --max-auc 1\n```", test_flags_are_spelt_one_way),
        ("```python\nif\n```", test_python_compiles),
        ("```python\nfrom reticent.core.record import Record\n```", test_python_imports_public_names_only),
        ("```python\nimport reticent.core.record\n```", test_python_imports_public_names_only),
    ],
)
def test_these_tests_can_fail(text, flaw, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text + "\n", encoding="utf-8")
    with pytest.raises((AssertionError, SyntaxError, pytest.fail.Exception)):
        flaw(page)
