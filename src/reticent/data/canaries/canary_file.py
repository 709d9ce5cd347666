# SPDX-License-Identifier: Apache-2.0
"""The list of canaries: what was drawn, which coins came up, and what was planted how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core import validate
from reticent.core.atomic import replacing
from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span

SHAPES = ("text", "pair", "chat")
NOT_PLANTED = "not planted (control)"


@dataclass(frozen=True, kw_only=True)
class Canary:
    """One secret.

    Args:
        id: ``canary/<kind>/<number>``.
        kind: name in the registry of kinds.
        repetitions: the tier: how often it is trained on if its coin says so; 0 for controls, which get no coin.
        planted: the coin: it was trained on.
        text: the secret and the words around it.
        space: how many secrets of this kind there are, or their effective number (see `CanaryKind`).
        probability: of the coin; 0 for controls.
        start, end: the secret in ``text``; the words before ``start`` lead to it. None: to the end.
        shape: of the record that it is trained on and scored as: ``"text"``; ``"pair"``: a prompt, the words before
            the secret, and a completion; ``"chat"``: a user's turn, those words, and the assistant's. So the secret is
            always on the side that is trained on.
    """

    id: str
    kind: str
    repetitions: int
    planted: bool
    text: str
    space: int
    probability: float
    start: int = 0
    end: int | None = None
    shape: str = "text"

    def __post_init__(self) -> None:
        validate.one_of(SHAPES, shape=self.shape)

    @property
    def is_control(self) -> bool:
        """True if it had no chance to be planted."""
        return self.repetitions == 0

    @property
    def secret(self) -> str:
        """The secret itself."""
        return self.text[self.start : self.end]

    @property
    def record(self) -> Record:
        """The secret as one record, to be trained on and scored. The blank before it goes with a completion, as
        tokenizers have it, and with no turn of a chat."""
        before, rest = self.text[: self.start], self.text[self.start :]
        if self.shape == "pair":
            prompt = before.rstrip()
            return Record(id=self.id, prompt=prompt, completion=before[len(prompt) :] + rest)
        if self.shape == "chat":
            asked = (Message(role="user", content=before.strip()),) if before.strip() else ()
            return Record(id=self.id, messages=(*asked, Message(role="assistant", content=rest)))
        return Record(id=self.id, text=self.text)

    @property
    def span(self) -> Span:
        """Where the secret lies in ``record.plain``."""
        plain, secret = self.record.plain, self.secret
        start = self.start if self.shape == "text" else len(plain) - len(self.text[self.start :])
        return Span(start=start, end=start + len(secret), kind=self.kind)


_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("repetitions", pa.int32(), nullable=False),
        pa.field("planted", pa.bool_(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        # a string: a space may be larger than 2^63
        pa.field("space", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32()),
        pa.field("shape", pa.string(), nullable=False),
    ]
)


def write_canaries(path: str | Path, canaries: Sequence[Canary]) -> None:
    """Write ``canaries.parquet``, atomically."""
    rows = [asdict(canary) | {"space": str(canary.space)} for canary in canaries]
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary)


def read_canaries(path: str | Path) -> tuple[Canary, ...]:
    """Read what `write_canaries` wrote.

    Raises:
        BadInput: the file is no list of canaries.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(str(path), "is no readable list of canaries", "Give the file that was written.") from error
    if not set(_SCHEMA.names) <= set(table.column_names):
        raise BadInput(str(path), "is no list of canaries", "Give the canaries.parquet of a run.")
    return tuple(Canary(**row | {"space": int(row["space"])}) for row in table.select(_SCHEMA.names).to_pylist())


def named_tier(repetitions: int) -> str:
    """The name of secrets that were planted so often; 0 where their coin left them out."""
    if repetitions == 0:
        return NOT_PLANTED
    return "planted once" if repetitions == 1 else f"planted {repetitions} times"
