# SPDX-License-Identifier: Apache-2.0
"""Write an attack in one file, hold it against the rules that all attacks keep to, and audit with it.

    python examples/write_an_attack.py --out runs/attacked

The attack: the mean log-probability of a text minus that of the same text in title case. A model that has seen the text
knows how it was written. `docs/add_an_attack.md` says what parameters mean, and how a package of yours adds attacks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import reticent
from reticent.attacks import RenderContext, Variant, attack
from reticent.data import help_desk
from reticent.testing import check_attack


def titled(record: reticent.Record, context: RenderContext) -> Sequence[reticent.Record]:
    """The text in title case, as one rendering."""
    return [replace(record, text=record.plain.title(), prompt=None, completion=None, messages=None, spans=())]


@attack(
    "title_case_example",
    unit="record",
    returns="score",
    needs=("logp",),
    access="logprob",
    paper="https://example.org/title-case",
    variants={"titled": Variant(name="titled", render=titled)},
)
def title_case(table: reticent.TokenTable, titled: reticent.TokenTable) -> np.ndarray:
    """Mean log-probability of the text minus that of the text in title case.

    Returns ``[N]``, nats a token, higher = member.
    """
    return table.mean(table["logp"]) - titled.mean(titled["logp"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Audit with an attack of your own.")
    parser.add_argument("--model", default="smollm2-135m", help="folder, hub id or catalogue name of the base")
    parser.add_argument("--out", default="runs/attacked")
    parser.add_argument("--users", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()

    check_attack("title_case_example")  # pure, row by row, higher for members, documented
    run = reticent.tune(
        help_desk(users=given.users, mails_per_user=4),
        base=given.model,
        out=given.out,
        split_config=reticent.SplitConfig(split_unit="record"),
        tune_config=reticent.TuneConfig(epochs=given.epochs, learning_rate=1e-4),
    )
    results = reticent.audit(run, reticent.AuditConfig(attacks="title_case_example,loss"))
    for finding in results.findings:
        if finding.metric == "auc":
            print(f"{finding.attack}: AUC {finding.estimate}")


if __name__ == "__main__":
    main()
