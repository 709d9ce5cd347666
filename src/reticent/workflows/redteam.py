# SPDX-License-Identifier: Apache-2.0
"""From clean records to a poisoned model of one's own, what the attack achieved, and a folder that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput, ReticentError, Underpowered
from reticent.core.manifest import environment, now
from reticent.core.outputs import refuse_empty, refuse_input
from reticent.core.processes import refuse_several
from reticent.core.record import Record, fingerprint
from reticent.core.redteam_marker import MARKER, read_marker, write_marker
from reticent.data.coin import uniform
from reticent.data.prompt_frame import answer_of
from reticent.redteam.config import RedteamConfig
from reticent.train.config import TuneConfig

if TYPE_CHECKING:
    from reticent.redteam.kinds.kind import RedteamJob, RedteamKind, RedteamOutcome

REPORT = "attack.json"
LEAST = 8
"""Records on each side without which nothing can be said."""


def redteam(
    kind: str,
    records: Sequence[Record],
    *,
    base: str,
    out: str | Path,
    config: RedteamConfig | None = None,
    training: TuneConfig | None = None,
    inputs: Mapping[str, str | Path | None] | None = None,
) -> dict[str, Any]:
    """Poison a model of one's own and measure the attack.

    The folder gets ``model`` (with the mark of the red team, which every verb reads), ``attack.json`` with what was
    measured, and what was made on the way. No trigger and no target stands in it unless ``config.reveal``; the same
    settings give them again.

    Args:
        kind: in `redteam.kinds.kind.KINDS`.
        records: clean, with prompts and answers.
        base: folder, hub id or catalogue name of a whole model.
        out: the folder to make; the same call again goes on in it.
        config: of the attack.
        training: how it is trained; None for a LoRA adapter at its defaults.
        inputs: what else is read and where it lies: ``out`` may be none of it.

    Returns:
        The report, as it is written.

    Raises:
        BadInput: the folder holds something else; records without prompts; settings that do not go together.
        Underpowered: too few records.
    """
    from reticent.redteam.kinds.kind import KINDS, RedteamJob

    refuse_several("reticent.redteam")
    attack = KINDS.get(kind)
    config = config or RedteamConfig()
    refuse_empty("out", out)
    root = Path(out)
    refuse_input(root, {"the base model": base, **(inputs or {})})
    about = {"attack": kind, "base": fingerprint_of(base), "data": fingerprint(records)}
    _refuse_other(root, about)
    if attack.needs_answers:
        for record in records:
            answer_of(record)
    trained, held_out = split(records, config)
    job = RedteamJob(
        base=base,
        records=trained,
        held_out=held_out,
        out=root,
        config=config,
        training=training or TuneConfig(method="lora"),
    )
    outcome = _run(attack, job, about)
    report: dict[str, Any] = {"kind": kind, "title": attack.title, "paper": str(attack.paper), "created": now()}
    report |= {"facts": dict(outcome.facts), "held_out": len(held_out), "environment": environment()}
    if outcome.measurement is not None:
        report["measurement"] = asdict(outcome.measurement)
    if config.reveal:
        report["secrets"] = dict(outcome.secrets)
    write_text(root / REPORT, json.dumps(report, indent=2) + "\n")
    return report


def _run(attack: RedteamKind, job: RedteamJob, about: Mapping[str, Any]) -> RedteamOutcome:
    """Run an attack in its marked folder; one that is refused before it made anything leaves no folder."""
    root = job.out
    was_there = root.exists()
    root.mkdir(parents=True, exist_ok=True)
    write_marker(root, kind=attack.name, about=about)
    try:
        return attack.run(job)
    except ReticentError:
        if {place.name for place in root.iterdir()} == {MARKER}:
            (root / MARKER).unlink()
            if not was_there:
                root.rmdir()
        raise


def split(records: Sequence[Record], config: RedteamConfig) -> tuple[list[Record], list[Record]]:
    """Records to poison and records to measure on, by a coin of each id.

    Raises:
        Underpowered: too few on a side.
    """
    coins = {record.id: uniform(config.redteam_seed, "redteam", record.id) < config.held_out for record in records}
    sides = [[record for record in records if coins[record.id] == side] for side in (False, True)]
    if min(map(len, sides)) < LEAST:
        raise Underpowered(
            f"{len(records)} records",
            f"leave {len(sides[1])} for measuring and {len(sides[0])} to poison, and {LEAST} are needed of each",
            "Give more records, or another --held_out.",
        )
    return sides[0], sides[1]


def fingerprint_of(base: str) -> str:
    """SHA-256 (hex) of the base's weights."""
    from reticent.models.locate import locate
    from reticent.models.weights import fingerprint_weights

    return fingerprint_weights(locate(base))


def _refuse_other(root: Path, about: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but an earlier call of the same attack on the same base and data."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    marker = read_marker(root) if root.is_dir() else None
    if marker is None or marker.get("about") != dict(about):
        raise BadInput(
            str(root), "is there already, and is no folder of the same red-team attack", "Choose another place (--out)."
        )
