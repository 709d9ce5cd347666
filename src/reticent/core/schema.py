# SPDX-License-Identifier: Apache-2.0
"""The legend of the project: what each column of a token table is called, holds and is measured in."""

from __future__ import annotations

from typing import NamedTuple

SCHEMA_VERSION = 1
"""Schema version, part of every cache key and results file. Increment when a column changes its meaning."""


class Column(NamedTuple):
    """One column: numpy dtype, unit and meaning."""

    dtype: str
    unit: str
    meaning: str


TOKEN_COLUMNS: dict[str, Column] = {
    "token_id": Column("int32", "", "vocabulary id of the predicted token"),
    "logp": Column("float32", "nats", "log p(token | what precedes it), at most 0"),
    "rank": Column("int32", "", "how many tokens the model finds strictly more likely (0 = it is the top choice)"),
    "entropy": Column("float32", "nats", "entropy of the next-token distribution p"),
    "mu": Column("float32", "nats", "mean of log p over the vocabulary under p (= -entropy)"),
    "sigma": Column("float32", "nats", "standard deviation of log p over the vocabulary under p"),
    "loss_mask": Column("bool", "", "whether the token is trained on (prompts are not)"),
}
"""One value for each predicted token."""

RECORD_COLUMNS: dict[str, Column] = {
    "record_id": Column("object", "", "id of the record"),
    "copy": Column("int32", "", "which rendering of the record, for variants that make several (0 = first)"),
    "text_bytes": Column("int32", "bytes", "length of the trained text, as far as it is scored, in UTF-8"),
    "zlib_bytes": Column("int32", "bytes", "length of that text after zlib"),
}
"""One value for each row."""
