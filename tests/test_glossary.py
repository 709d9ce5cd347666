# SPDX-License-Identifier: Apache-2.0
"""One name for one thing: terms of the glossary are used, and their second spellings are not."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
SECOND_SPELLINGS = {
    r"(?<!known )non-?members?\b": "held-out",
    r"\bheldout\b": "held-out",
    r"\b(victim|attacked) model\b": "target",
    r"\bauditee\b": "target",
    r"\bAUROC\b": "AUC",
    r"\bfalse-positive\b": "false positive",
    r"\btrue-positive\b": "true positive",
    r"\bmemoris": "memoriz",
    r"\bneighboring\b": "neighbouring",
    r"\bfinetun": "fine-tun",
    r"\blog probabilit|\blogprobabilit": "log-probabilit",
    r"\bnear duplicate": "near-duplicate",
    r"\btradeoff curve": "trade-off curve",
    r"\bprivacy (budget|statement)": "guarantee",
    r"\badjacen(t|cy) (data|relation)": "neighbouring",
    r"\bper-example\b": "per-unit or per-record",
    r"\bteacher forc": "teacher-forc",
    r"\bcloze\b": "masked span",
    r"\bdeanonymi": "association or reconstruction",
}
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("docs/glossary.md", "held-out"): "the page that says which word is not used",
    ("src/reticent/stats/difference_in_differences.py", "memoriz"): "the title of a paper",
}
"""(path, the right word) → the reason why the other may stand there."""


def terms(page: str) -> dict[str, Sequence[str]]:
    """The spellings of each term: cells of first columns, split at commas."""
    cells = re.findall(r"^\| ([^|]+?) \|", page, flags=re.MULTILINE)
    return {cell: cell.split(", ") for cell in cells if cell != "term"}


def prose(path: Path) -> str:
    """The text of a page without code; of a module docstrings and comments, without names in quotes."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = "\n\n".join([*docstrings(text), *comments(text)])
    else:
        text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\s+", " ", re.sub(r"``[^`]*``|`[^`]*`", "`", text))


def everything(path: Path) -> str:
    """The text of a page or a module with its code, on one line."""
    return re.sub(r"\s+(#:?\s+)*", " ", path.read_text(encoding="utf-8"))


def docstrings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(ast.Constant(str(docstring))):
                yield docstring


def comments(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def second_spellings(text: str) -> list[tuple[str, str]]:
    """Each with what stands around it, and the word to use."""
    spelt = []
    for pattern, right in SECOND_SPELLINGS.items():
        if match := re.search(pattern, text, flags=re.IGNORECASE):
            spelt.append((text[max(0, match.start() - 30) : match.end() + 30], right))
    return spelt


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted((ROOT / "src").rglob("*.py"))


def test_one_name_for_one_thing():
    wrong = {}
    for path in (*PAGES, *MODULES):
        name = path.relative_to(ROOT).as_posix()
        if not second_spellings(everything(path)):  # to tell comments from code takes longer than all else
            continue
        spelt = [pair for pair in second_spellings(prose(path)) if (name, pair[1]) not in EXCEPTIONS]
        if spelt:
            wrong[name] = spelt
    assert not wrong


def test_every_term_is_used():
    texts = [path.read_text(encoding="utf-8") for path in (*PAGES, *MODULES) if path != GLOSSARY]
    text = re.sub(r"\s+", " ", " ".join(texts)).casefold()
    unused = [
        spelling
        for spellings in terms(GLOSSARY.read_text(encoding="utf-8")).values()
        for spelling in spellings
        if not re.search(rf"(?<![^\W_]){spelling.casefold().replace(' ', '[ _]')}s?(?![^\W_])", text)
    ]
    assert not unused


def test_every_term_has_a_meaning_and_stands_once():
    page = GLOSSARY.read_text(encoding="utf-8")
    rows = [row for row in re.findall(r"^\| (.+) \|$", page, flags=re.MULTILINE) if not row.startswith("term |")]
    assert len(rows) >= 50
    assert all(len(row.split(" | ")) in (2, 3) and row.split(" | ")[1].strip(" |") for row in rows)
    spellings = [spelling.casefold() for group in terms(page).values() for spelling in group]
    assert len(spellings) == len(set(spellings))


def test_exceptions_are_needed():
    for name, right in EXCEPTIONS:
        assert right in [word for _, word in second_spellings(prose(ROOT / name))]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Members and non-members.", ["held-out"]),
        ("The known non-members of RMIA.", []),
        ("Its AUROC at a false-positive rate", ["AUC", "false positive"]),
        ("the victim model memorised it", ["target", "memoriz"]),
        ("held-out, fine-tuned, log-probability, neighbouring", []),
    ],
)
def test_second_spellings_are_seen(text, right):
    assert sorted(word for _, word in second_spellings(text)) == sorted(right)


def test_prose_leaves_code_out(tmp_path):
    page, module = tmp_path / "page.md", tmp_path / "module.py"
    page.write_text("Say `AUROC` here.\n\n```python\nauroc = 'AUROC'\n```\n\nAnd held\nout.\n")
    assert prose(page).strip() == "Say ` here. And held out."
    module.write_text('"""A ``non_member``."""\nAUROC = "AUROC"  # the AUC\n')
    assert prose(module) == "A `. # the AUC"
    module.write_text('"""Of the log\nprobability."""\n# It takes a log\n# probability.\n')
    assert second_spellings(everything(module))
    assert second_spellings(prose(module))
    module.write_text("x = 1  # It takes a log\n       # probability.\n")
    assert second_spellings(everything(module))
