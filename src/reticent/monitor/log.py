# SPDX-License-Identifier: Apache-2.0
"""``monitor.json`` and ``panel.parquet``: what was seen while a model trained. No text.

``monitor.json`` is a `TrainingHistory` as JSON: each estimate an object with the fields of `Estimate`, an end
without a bound ``null``. ``panel.parquet`` has a row for each look and record:

===============  ===================================================================================================
``step``         int32, optimizer steps taken before the look; 0 is the model before training
``record_id``    string
``user``         string, null where unknown
``user_member``  bool, whether a record of the user is trained on
``member``       bool, whether the record is trained on
``role``         "evaluate", "fresh", "canary" or "canary_user", see `Panel`
``tier``         int32, how often a secret is planted; 0: its coin left it out, -1: control, null: no secret
``nll``          float64, nats: negative log-likelihood summed over the trained tokens
``base_nll``     float64, the same under the base model
``tokens``       int32, how many these are
``first_seen``   int32, the first optimizer step (counted from 1) whose batch held the record; -1 = never; null where
                 the trainer does not tell
===============  ===================================================================================================

So a record has been trained on before a look if ``1 <= first_seen <= step``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing, write_text
from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput
from reticent.core.snapshot import TrainingHistory
from reticent.monitor.look import PanelPass
from reticent.monitor.panel import NO_TIER, Panel

FORMAT = "reticent.monitor"
VERSION = 2
"""``schema_version`` of the file."""
OLDER = 1
"""The version that is read as well: its snapshots have the names of `OLDER_NAMES`, in ``refused`` too."""
OLDER_NAMES = {"recall": ("tpr_at_10pct_fpr", "tpr@0.1"), "tpr": ("tpr_at_1pct_fpr", "tpr@0.01")}
"""Today's field and metric, by the field of the older version."""
JSON, PANEL = "monitor.json", "panel.parquet"

PANEL_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("user", pa.string()),
        pa.field("user_member", pa.bool_(), nullable=False),
        pa.field("member", pa.bool_(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("tier", pa.int32()),
        pa.field("nll", pa.float64(), nullable=False),
        pa.field("base_nll", pa.float64(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("first_seen", pa.int32()),
    ]
)


def write_history(path: str | Path, watch: TrainingHistory) -> None:
    """Write ``monitor.json``, atomically."""
    plain = {"format": FORMAT, "schema_version": VERSION, **encode(watch)}
    write_text(path, json.dumps(plain, indent=2, allow_nan=False) + "\n")


def read_history(path: str | Path) -> TrainingHistory:
    """Read what `write_history` wrote.

    Raises:
        BadInput: it is missing, broken, or of another version.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(str(path), "is missing", "Train with --monitor true.") from error
    except ValueError as error:
        raise BadInput(str(path), f"is not valid JSON ({error})", "Train again.") from error
    version = content.pop("schema_version", None) if isinstance(content, dict) else None
    if version not in (OLDER, VERSION) or content.pop("format", None) != FORMAT:
        raise BadInput(str(path), f"is no {JSON} of version {VERSION}", "Train again with this version of reticent.")
    try:
        return decode(TrainingHistory, _migrated(content) if version == OLDER else content)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Train again.") from error


def _migrated(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a file of version `OLDER` with today's names; what is broken stays so, for `decode` to say it."""
    moments = content.get("moments")
    return content | {"moments": list(map(_renamed, moments))} if isinstance(moments, list) else content


def _renamed(moment: Any) -> Any:
    if not isinstance(moment, dict):
        return moment
    fields = {OLDER_NAMES[name][0] if name in OLDER_NAMES else name: value for name, value in moment.items()}
    if isinstance(moment.get("refused"), list):
        fields["refused"] = list(map(_reason, moment["refused"]))
    return fields


def _reason(sentence: Any) -> Any:
    name, colon, why = sentence.partition(":") if isinstance(sentence, str) else ("", "", "")
    return f"{OLDER_NAMES[name][1]}{colon}{why}" if name in OLDER_NAMES else sentence


def panel_rows(
    panel: Panel,
    look: PanelPass,
    base: npt.NDArray[np.float64],
    *,
    step: int,
    first_seen: Sequence[int | None] | None = None,
) -> pa.Table:
    """The rows of one look at ``N`` records, with `PANEL_SCHEMA`.

    Args:
        panel: the records.
        look: at them.
        base: ``[N]`` summed negative log-likelihood under the base.
        step: at which it was.
        first_seen: ``[N]`` as in the file; None where nobody counted.
    """
    n = len(panel)
    columns: dict[str, Any] = {
        "step": np.full(n, step, dtype=np.int32),
        "record_id": [record.id for record in panel.records],
        "user": list(panel.user),
        "user_member": panel.user_member,
        "member": panel.member,
        "role": list(panel.role),
        "tier": pa.array(panel.tier, pa.int32(), mask=panel.tier == NO_TIER),
        "nll": look.nll,
        "base_nll": base,
        "tokens": look.tokens,
        "first_seen": pa.nulls(n, pa.int32()) if first_seen is None else first_seen,
    }
    return pa.table(columns, schema=PANEL_SCHEMA)


def write_panel(path: str | Path, table: pa.Table) -> None:
    """Write ``panel.parquet``, atomically."""
    with replacing(path) as temporary:
        pq.write_table(table.cast(PANEL_SCHEMA), temporary, compression="zstd")


def read_panel(path: str | Path) -> pa.Table:
    """Read what `write_panel` wrote, a table with `PANEL_SCHEMA`.

    Raises:
        BadInput: it is missing or something else.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise BadInput(str(path), "is missing", "Train with --monitor true.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(str(path), "is no readable panel", "Train again.") from error
    if set(PANEL_SCHEMA.names) - set(table.column_names):
        raise BadInput(str(path), "is no panel", f"Give the {PANEL} of a run.")
    return table.select(PANEL_SCHEMA.names).cast(PANEL_SCHEMA)
