# SPDX-License-Identifier: Apache-2.0
"""The paper index: every attack with its paper, made from the registry so that it cannot fall behind."""

from __future__ import annotations

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.evidence import ATTACK_FAMILIES, EVIDENCE, RETURNS, UNITS
from reticent.attacks.parameter import shown

_HEAD = """\
# Paper index

Made from the registry of attacks; do not edit. To refresh:
`python -m reticent.attacks.paper_index > docs/paper_index.md`.

An attack sees the fine-tuned model as *access* says, and holds what stands under *evidence*, explained
[below](#evidence). Parameters are set by `--attacks "NAME(PARAMETER=VALUE)"`.
"""

_ATTACKS = """
## {unit}s: {about}

| attack | returns | part of an audit | access | evidence | parameters | paper | what it computes |
|---|---|---|---|---|---|---|---|
"""

_RETURNS = """
## What is returned

| | |
|---|---|
"""

_EVIDENCE = """
## Evidence

Any other name is a rendering of the text that the attack brings itself, scored by the fine-tuned model, or with `_ref`
by the reference.

| name | what it is |
|---|---|
"""


def paper_index() -> str:
    """The index as a Markdown page: by unit, attacks in alphabetical order."""
    parts = [_HEAD]
    for unit, about in UNITS.items():
        parts.append(_ATTACKS.format(unit=unit.capitalize(), about=about))
        parts += map(_row, ATTACKS.select(unit=unit))
    parts.append(_RETURNS)
    parts += (f"| {name} | {about} |\n" for name, about in RETURNS.items())
    parts.append(_EVIDENCE)
    parts += (f"| `{name}` | {evidence.about} |\n" for name, evidence in EVIDENCE.items())
    return "".join(parts)


def _row(attack: Attack) -> str:
    family = ATTACK_FAMILIES[attack.family]
    part = f"{family.title} (`--{family.switch}`)" if family.switch else family.title
    cells = (
        f"`{attack.name}`",
        attack.returns,
        part,
        attack.access,
        ", ".join(f"`{name}`" for name in attack.evidence),
        ", ".join(f"`{name}={shown(parameter.default)}`" for name, parameter in attack.parameters.items()),
        f"[{attack.paper}]({attack.paper.url})",
        attack.summary,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    print(paper_index(), end="")
