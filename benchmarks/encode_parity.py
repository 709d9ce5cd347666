# SPDX-License-Identifier: Apache-2.0
"""Whether records become the tokens of their whole text, with every kind of tokenizer.

For each kind of tokenizer in `reticent.testing.tokenizers`, made-up records of all shapes are encoded and compared with
what the tokenizer itself makes of the whole text: of a text, of prompt and completion one behind the other, of a chat
as its template renders it (there also what is trained on, with the mask that the template gives). A record counts as a
mismatch if one token id, or one place of a mask, differs.

``python benchmarks/encode_parity.py --json FILE`` writes ``tokenizers``, ``records`` (over all tokenizers) and
``mismatches``, and the same for each kind. With ``--model`` the tokenizers of models that are here are asked too.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reticent.core.manifest import environment
from reticent.core.record import Message, Record
from reticent.models.encode import encode
from reticent.testing.tokenizers import BLANKS_KEPT, TEXTS, TOKENIZERS, tokenizer_of_kind

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|turn|>assistant\n"
    "{% generation %}{{ m['content'] + '<|end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ '<|turn|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
)
ODD = (
    "",
    " ",
    "\n",
    "  two blanks",
    "trailing ",
    "\ttab",
    "é漢😀",
    "e\u0301",
    "a\u00a0b",
    "<|end|>",
    "0123456789",
    "▁",
    "...",
)
"""Texts that tokenizers treat in ways of their own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--records", type=int, default=500, help="for each tokenizer")
    parser.add_argument("--model", action="append", default=[], help="catalogue name or folder; may be given again")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    result = compare(given)
    print(json.dumps({key: result[key] for key in ("tokenizers", "records", "mismatches")}))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Count records and mismatches of every tokenizer."""
    from reticent.models.load import load_tokenizer

    made = {kind: tokenizer_of_kind(kind, template=TEMPLATE) for kind in TOKENIZERS}
    asked = made | {name: load_tokenizer(name) for name in given.model}
    rows = []
    for name, tokenizer in asked.items():
        records = list(_records(random.Random(f"{given.seed} {name}"), given.records, bool(tokenizer.chat_template)))
        dropped = name == "byte_level_trimmed" or (name in TOKENIZERS and name not in BLANKS_KEPT)
        wrong = sum(not _agrees(record, tokenizer, masks=not dropped and name in TOKENIZERS) for record in records)
        rows.append(
            {"kind": name, "is": TOKENIZERS.get(name, "a model's own"), "records": len(records), "mismatches": wrong}
        )
    return {
        "tokenizers": len(rows),
        "records": sum(row["records"] for row in rows),
        "mismatches": sum(row["mismatches"] for row in rows),
        "rows": rows,
        "environment": environment(),
    }


def _records(rng: random.Random, count: int, chats: bool) -> Iterator[Record]:
    for number in range(count):
        shape = number % (3 if chats else 2)
        one = [_text(rng) for _ in range(4)]
        if shape == 0:
            yield Record(id=str(number), text=one[0] + one[1])
        elif shape == 1:
            yield Record(id=str(number), prompt=one[0], completion=one[1])
        else:
            roles = ("user", "assistant", "user", "assistant")
            turns = tuple(Message(role=role, content=text) for role, text in zip(roles, one, strict=True))
            yield Record(id=str(number), messages=turns)


def _text(rng: random.Random) -> str:
    """Some words of a text, cut anywhere, with odd ones in between."""
    text = rng.choice(TEXTS)
    start = rng.randrange(len(text))
    pieces = [text[start : start + rng.randrange(40)], rng.choice(ODD), rng.choice(TEXTS)[: rng.randrange(30)]]
    rng.shuffle(pieces)
    return "".join(pieces[: rng.randrange(1, 4)])


def _agrees(record: Record, tokenizer: Any, *, masks: bool) -> bool:
    ours = encode(record, tokenizer, add_eos=record.messages is not None)
    if record.messages is None:
        whole = "".join(text for _, text in record.pieces)
        return bool(ours.token_id.tolist() == tokenizer(whole)["input_ids"])
    said = [{"role": message.role, "content": message.content} for message in record.messages]
    theirs = tokenizer.apply_chat_template(said, tokenize=True, return_dict=True, return_assistant_tokens_mask=masks)
    same = ours.token_id.tolist() == theirs["input_ids"]
    # Where offsets leave out blanks, the template's mask loses its place, so only ids are compared.
    return bool(same and (not masks or ours.trained.tolist() == [bool(one) for one in theirs["assistant_masks"]]))


if __name__ == "__main__":
    main()
