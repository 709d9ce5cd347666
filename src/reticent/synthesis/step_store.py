# SPDX-License-Identifier: Apache-2.0
"""StepStore: the steps of a mechanism that were spent, on the disk before what they gave leaves the process.

A step gives texts: a few of those that are asked for, or what is left after a vote. Its line goes into ``spent.jsonl``
and is flushed to the disk, and only then are its texts written beside it. A crash in between leaves a step that was
spent and whose texts are made again, with the same secret coins and noise, to the same bytes: that is the same step,
and costs nothing more. Should they come out otherwise (another device or version), the two outcomes together would tell
more than one, so the step is refused and nothing of it used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.line_ledger import append_line, begin_or_go_on, refuse_gaps
from reticent.privacy.check import GuaranteeViolated

FORMAT = 1
SPENT = "spent.jsonl"
STEP = "step-{:06d}.jsonl"


@dataclass(frozen=True, kw_only=True)
class StepSpent:
    """One step that was spent.

    Args:
        step: its number, from 0.
        digest: SHA-256 of its texts, in hex.
    """

    step: int
    digest: str


class StepStore:
    """The steps of one mechanism. Opens what an earlier process left, and goes on with it.

    Args:
        folder: where ledger and texts lie; it exists.
        about: the mechanism that the steps are of, with all numbers that its cost depends on.
        key: the secret key; the ledger tells only whether it is the same.
        steps: how many are accounted for.

    Raises:
        BadInput: the ledger is broken, or of another mechanism or key.
    """

    def __init__(self, folder: str | Path, about: Mapping[str, Any], *, key: bytes, steps: int) -> None:
        self.folder, self.steps = Path(folder), steps
        told = hashlib.sha256(b"synthesis" + key).hexdigest()[:16]
        header = {"format": FORMAT, **about, "steps": steps, "key": told}
        self.spent = begin_or_go_on(self.path, header, StepSpent, name="ledger of steps", of="mechanism")
        refuse_gaps(self.path, [entry.step for entry in self.spent], most=steps)

    @property
    def path(self) -> Path:
        """Of the ledger."""
        return self.folder / SPENT

    def step(self, number: int, make: Callable[[], Sequence[str]]) -> list[str]:
        """The texts of a step: those that lie there, or else those that ``make`` gives, once they are spent.

        Args:
            number: from 0; that after the last, or one that was spent before.
            make: gives the same texts at every call.

        Raises:
            GuaranteeViolated: the step is not accounted for, or one before it is missing.
            BadInput: it was spent before and gave other texts.
        """
        if not 0 <= number < self.steps or number > len(self.spent):
            raise GuaranteeViolated(
                "each step is spent once, in order",
                f"step {number} was asked for after {len(self.spent)} of {self.steps}",
                "ε would leave steps out.",
            )
        before = self.spent[number] if number < len(self.spent) else None
        if before is not None and (texts := self._stored(number)) is not None and digest(texts) == before.digest:
            return texts
        texts = list(make())
        entry = StepSpent(step=number, digest=digest(texts))
        if before is not None and before != entry:
            raise BadInput(
                str(self.folder),
                f"step {number + 1} was spent before, and now gave other texts by the same coins: the two together "
                "would tell more than is promised, so nothing of it is used",
                "Run it again as it was begun: the same data, model, device, number of threads and versions. Where "
                "that is not possible, start over in another folder (--out); what was spent here stays on record.",
            )
        if before is None:
            append_line(self.path, asdict(entry))
            self.spent.append(entry)
        write_text(self._file(number), "".join(json.dumps(text) + "\n" for text in texts))
        return texts

    def _file(self, number: int) -> Path:
        return self.folder / STEP.format(number)

    def _stored(self, number: int) -> list[str] | None:
        try:
            lines = self._file(number).read_text(encoding="utf-8").splitlines()
            return [str(json.loads(line)) for line in lines]
        except (OSError, ValueError):
            return None


def digest(texts: Sequence[str]) -> str:
    """SHA-256 of texts in their order, in hex; where one ends and the next begins counts.

    >>> digest(["a", "b"]) == digest(["ab"])
    False
    """
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def has_spent(folder: str | Path) -> bool:
    """True if a step is on record in that folder."""
    try:
        return (Path(folder) / SPENT).read_bytes().count(b"\n") > 1
    except OSError:
        return False


def forget_texts(folder: str | Path) -> None:
    """Take the texts of steps away, once they lie elsewhere. What was spent stays on record."""
    for path in Path(folder).glob(STEP.replace("{:06d}", "*")):
        path.unlink(missing_ok=True)
