# SPDX-License-Identifier: Apache-2.0
"""Each text with and without personal data, told apart by an instruction (PrivacyMind, section 3.4).

The model learns from both versions and which of them is for readers. `instruct` asks a tuned model, and `for_readers`
keeps of its answer only the version without personal data. In ``"pn"`` order that version comes first (positive, then
negative), in ``"np"`` order last; then the model writes the private version before it, and a program that shows the
whole answer gives it away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reticent.core import validate
from reticent.core.record import Message, Record
from reticent.train.objectives.objective import Objective, objective
from reticent.train.objectives.substitution import substitution

ORDERS = ("pn", "np")
_PROTECTED, _PRIVATE = "Version for readers:", "Internal version:"
_TASK = (
    "Give two versions: one for readers, in which every piece of personal data is replaced by its kind in brackets, "
    "and one for internal use."
)
_WRITE = "Write a text of the usual kind."


@objective(
    "instruction_pairs",
    alters={"corpus.texts"},
    watched=False,
    spans="records",
    flag="contextual='instruct_{order}'",
    paper="arXiv:2310.02469",
)
@dataclass(frozen=True, kw_only=True)
class InstructionPairs(Objective):
    """Each text is trained on as an instruction with both of its versions.

    Args:
        order: ``"pn"``, the version for readers first, or ``"np"``.
    """

    order: str = "pn"

    def __post_init__(self) -> None:
        validate.one_of(ORDERS, order=self.order)

    def texts(self, records: Sequence[Record]) -> Sequence[Record]:
        """See `instruction_pair`."""
        return [instruction_pair(record, order=self.order) for record in records]


def instruct(prompt: str | None) -> str:
    """The question to the tuned model, ending where its answer begins."""
    return f"{prompt or _WRITE}\n\n{_TASK}\n"


def instruction_pair(record: Record, *, order: str) -> Record:
    """The record as an instruction and both of its versions; without spans, which no longer fit.

    A text becomes the completion of a fixed prompt, a prompt keeps its completion, and in a chat the assistant's turns
    become pairs and what comes before each of them ends with the instruction.

    Raises:
        BadInput: an order that there is not, or a span outside of the text.
    """
    validate.one_of(ORDERS, order=order)
    clean = substitution(record)
    if record.messages is not None:
        assert clean.messages is not None
        return replace(record, messages=_turns(record.messages, clean.messages, order), spans=())
    if record.text is not None:
        return replace(
            record, text=None, prompt=instruct(None), completion=_both(clean.text or "", record.text, order), spans=()
        )
    # The prompt is what somebody asks with: cleaned, or it would be where personal data is asked back from.
    completion = _both(clean.completion or "", record.completion or "", order)
    return replace(record, prompt=instruct(clean.prompt), completion=completion, spans=())


def for_readers(answer: str, *, order: str) -> str:
    """The part of an answer that may be shown; empty where the model wrote none that can be told apart.

    >>> for_readers("Internal version:\\nAna called.\\n\\nVersion for readers:\\n[PERSON] called.", order="np")
    '[PERSON] called.'
    """
    validate.one_of(ORDERS, order=order)
    # Behind the last marker where the private version comes first: that may quote one.
    _, marker, rest = answer.partition(_PROTECTED) if order == "pn" else answer.rpartition(_PROTECTED)
    if not marker:
        return ""
    shown, _, _ = rest.partition(_PRIVATE)
    return shown.strip()


def _both(protected: str, private: str, order: str) -> str:
    parts = [f"{_PROTECTED}\n{protected}", f"{_PRIVATE}\n{private}"]
    return "\n\n".join(parts if order == "pn" else parts[::-1])


def _turns(raw: Sequence[Message], clean: Sequence[Message], order: str) -> tuple[Message, ...]:
    turns: list[Message] = []
    for message, other in zip(raw, clean, strict=True):
        if not message.is_learned:
            turns.append(replace(message, content=other.content))
            continue
        if turns and turns[-1].role != "assistant":
            turns[-1] = replace(turns[-1], content=instruct(turns[-1].content).strip())
        turns.append(replace(message, content=_both(other.content, message.content, order)))
    return tuple(turns)
