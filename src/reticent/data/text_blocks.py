# SPDX-License-Identifier: Apache-2.0
"""Cut running text into blocks of equal length, which are then the records that are trained on or not.

Studies of memorization on a corpus such as Wikipedia join all text and cut it, so that the block is the membership unit
(Mireshghallah et al., 2022, arXiv:2205.12506).
"""

from __future__ import annotations

from collections.abc import Sequence

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.words import pieces


def blocks(records: Sequence[Record], words: int, *, id_prefix: str = "b") -> list[Record]:
    """Records joined by a line break in their order and cut after every ``words`` words; a shorter rest is left out.

    Args:
        records: plain texts without users and marked spans.
        words: runs of characters without white space, and single characters where a script has no blanks between words
            (see `data.words.pieces`); the space between them is kept.
        id_prefix: ids are this and a number from 1.

    Raises:
        BadInput: a prompt, a chat, a user or a span would be torn apart, or there is less text than one block.
    """
    validate.positive(words=words)
    for record in records:
        if record.text is None or record.user is not None or record.spans:
            raise BadInput(
                f"block_words={words}",
                "only plain texts without users and spans can be joined and cut",
                "Leave it out, or give plain text.",
            )
    every = pieces("\n".join(record.text or "" for record in records))
    cut = ["".join(every[start : start + words]).rstrip() for start in range(0, len(every) - words + 1, words)]
    if not cut:
        raise BadInput(f"block_words={words}", f"all the text has {len(every)} words", "Give a smaller number.")
    return [Record(id=f"{id_prefix}{number:06d}", text=text) for number, text in enumerate(cut, start=1)]
