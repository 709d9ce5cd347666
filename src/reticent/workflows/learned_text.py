# SPDX-License-Identifier: Apache-2.0
"""Synthetic texts that a model is tuned on: whose they were made from, what these people are promised, and what not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reticent.auditing.synthetic.synthetic_file import read_promise
from reticent.core.errors import BadInput
from reticent.core.run_folder import RunFolder

ONLY_TEXTS = "A promise of this training is to single synthetic texts, and to nobody whose texts they were made from."


@dataclass(frozen=True, kw_only=True)
class LearnedText:
    """The file of texts that `reticent synthesize` made, as the manifest of a run that learned it has it.

    Args:
        data: fingerprint of the private records that the texts were made from.
        mechanism: that made them; empty where the file is no longer the one that was made.
        promise: that they carry, in words; empty where they carry none.

    Examples:
        >>> LearnedText(data="9f2c", mechanism="none", promise="").sentence.split(":")[0]
        'These texts were made by none, which promises nothing'
    """

    data: str
    mechanism: str
    promise: str

    @property
    def sentence(self) -> str:
        """In words, for people."""
        if not self.mechanism:
            return (
                "These texts were changed since they were made, so no promise that was made of them holds: a choice "
                f"among them may tell of the private texts. {ONLY_TEXTS}"
            )
        if not self.promise:
            return (
                f"These texts were made by {self.mechanism}, which promises nothing: what is tuned on them may repeat "
                f"the private texts, and is to be treated as if it had read them. {ONLY_TEXTS}"
            )
        return (
            f"These texts were made by {self.mechanism} and carry {self.promise}; what is tuned on them, and on "
            f"nothing else, carries that too. {ONLY_TEXTS}"
        )


def learned_text(data: str | Path | None) -> LearnedText | None:
    """The synthetic texts of a file that a model is to be tuned on; None where `reticent synthesize` did not make it.

    Args:
        data: as a person names it.

    Raises:
        BadInput: the folder that it lies in is broken.
    """
    if data is None or not str(data) or not Path(data).is_file():
        return None
    place = Path(data).resolve()  # behind a link, too
    run = RunFolder(root=place.parent)
    settings = run.settings("synthesize")
    if settings is None or place.name != run.synthetic.name:
        return None
    try:
        promise, mechanism = read_promise(str(place))
    except BadInput:
        promise, mechanism = None, ""
    return LearnedText(
        data=str(settings["data"]), mechanism=mechanism, promise="" if promise is None else promise.sentence
    )
