# SPDX-License-Identifier: Apache-2.0
"""The paper index: every attack with its paper, made from the registry so that it cannot fall behind."""

from __future__ import annotations

from reticent.attacks.attack import ATTACKS

_HEAD = """\
# Paper index

Made from the registry of attacks; do not edit. To refresh:
`python -m reticent.attacks.paper_index > docs/paper_index.md`.

An attack sees the fine-tuned model as *access* says, and holds the tables named under *evidence*: `table` and `ref` are
the fine-tuned and the reference model on the text, `known` and `known_ref` the same on texts known to be outside, other
names are variants of the text.

| attack | level | access | evidence | paper | what it computes |
|---|---|---|---|---|---|
"""


def paper_index() -> str:
    """The index as a Markdown page, attacks in alphabetical order."""
    rows = (
        f"| `{attack.name}` | {attack.level} | {attack.access} | {', '.join(f'`{name}`' for name in attack.evidence)} "
        f"| [{attack.paper}]({attack.paper_url}) | {attack.summary} |\n"
        for attack in ATTACKS
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    print(paper_index(), end="")
