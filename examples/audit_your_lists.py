# SPDX-License-Identifier: Apache-2.0
"""Audit a model that is in memory, with a list of what it was trained on and a list of what it was not.

    python examples/audit_your_lists.py --out runs/mine

The two lists must be of one kind. Here one list is of mails and the other, too, so the audit claims what it finds; with
`--other` the held-out list is of another kind, anybody can tell the lists apart without a model, and the audit says
*confounded* in place of a number.
"""

from __future__ import annotations

import argparse

from transformers import AutoModelForCausalLM, AutoTokenizer

import reticent
from reticent.data import help_desk


def main() -> None:
    parser = argparse.ArgumentParser(description="Audit a model in memory with two lists.")
    parser.add_argument("--model", default="smollm2-135m", help="folder or hub id")
    parser.add_argument("--out", default="runs/mine")
    parser.add_argument("--texts", type=int, default=200, help="of each list")
    parser.add_argument("--other", action="store_true", help="hold out texts of another kind")
    given = parser.parse_args()

    mails = [record.plain for record in help_desk(users=2 * given.texts, mails_per_user=1)]
    members, held_out = mails[::2], mails[1::2]
    if given.other:
        held_out = [f"Minutes of meeting {number}: nothing was decided." for number in range(given.texts)]

    results = reticent.audit(
        model=AutoModelForCausalLM.from_pretrained(given.model),
        tokenizer=AutoTokenizer.from_pretrained(given.model),
        members=members,
        held_out=held_out,
        config=reticent.AuditConfig(attacks="loss,min_k,zlib"),
        out=given.out,
    )
    print(results.verdict.status, "-", results.verdict.headline)
    print(results.to_frame()[["attack", "metric", "value", "lo", "hi"]])


if __name__ == "__main__":
    main()
