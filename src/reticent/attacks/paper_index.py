# SPDX-License-Identifier: Apache-2.0
"""The paper index: every attack with its paper, made from the registry so that it cannot fall behind."""

from __future__ import annotations

from reticent.attacks import natural_identifiers
from reticent.attacks.attack import ATTACKS
from reticent.attacks.extraction import EXTRACTIONS
from reticent.attacks.pii import PII_ATTACKS

_HEAD = """\
# Paper index

Made from the registry of attacks; do not edit. To refresh:
`python -m reticent.attacks.paper_index > docs/paper_index.md`.

An attack sees the fine-tuned model as *access* says, and holds the tables named under *evidence*: `table` and `ref` are
the fine-tuned and the reference model on the text, `known` and `known_ref` the same on texts known to be outside,
`written` and `written_ref` what both write after the beginning of the text, `shadow` and `known_shadow` what the
fine-tuned model and shadow models (`--shadow`) say of the text and of texts known to be outside, other names are
variants of the text.

| attack | level | access | evidence | paper | what it computes |
|---|---|---|---|---|---|
"""

_EXTRACTION = """
## Extraction

Run by `reticent audit --extraction`, on the fine-tuned model and on its base: see [Extraction](extraction.md).

| attack | about a | access | evidence | paper | what it computes |
|---|---|---|---|---|---|
"""

_PERSONAL = """
## Personal data

Run by `reticent audit --extraction` too.

| attack | access | evidence | paper | what it computes |
|---|---|---|---|---|
"""

_IDENTIFIERS = """
## Identifiers

Run by `reticent audit --identifiers`: see [Identifiers](identifiers.md).

| attack | access | paper | what it computes |
|---|---|---|---|
"""


def paper_index() -> str:
    """The index as a Markdown page, attacks in alphabetical order."""
    rows = (
        f"| `{attack.name}` | {attack.level} | {attack.access} | {', '.join(f'`{name}`' for name in attack.evidence)} "
        f"| [{attack.paper}]({attack.paper_url}) | {attack.summary} |\n"
        for attack in ATTACKS
    )
    extraction = (
        f"| `{attack.name}` | {attack.unit} | {attack.access} | {', '.join(f'`{name}`' for name in attack.evidence)} "
        f"| [{attack.paper}]({attack.paper_url}) | {attack.summary} |\n"
        for attack in EXTRACTIONS
    )
    personal = (
        f"| `{attack.name}` | {attack.access} | {', '.join(f'`{name}`' for name in attack.evidence)} "
        f"| [{attack.paper}]({_address(attack.paper)}) | {attack.summary} |\n"
        for attack in PII_ATTACKS
    )
    own = natural_identifiers
    identifiers = f"| `{own.NAME}` | {own.ACCESS} | [{own.PAPER}]({_address(own.PAPER)}) | {own.SUMMARY} |\n"
    tables = (_HEAD, *rows, _EXTRACTION, *extraction, _PERSONAL, *personal, _IDENTIFIERS, identifiers)
    return "".join(tables)


def _address(paper: str) -> str:
    kind, _, number = paper.partition(":")
    return {"arXiv": f"https://arxiv.org/abs/{number}", "doi": f"https://doi.org/{number}"}.get(kind, paper)


if __name__ == "__main__":
    print(paper_index(), end="")
