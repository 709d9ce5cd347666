# SPDX-License-Identifier: Apache-2.0
"""Run folders without a model's weights: who is to be forgotten is settled before any is opened."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from reticent.core.membership import Membership
from reticent.core.portable import portable
from reticent.core.record import Record, fingerprint, read_records, write_records
from reticent.core.run_folder import WRITTEN, RunFolder
from reticent.unlearning.request_file import RequestRow, write_request


def membership_of(
    records: Sequence[Record], trained: Sequence[str], *, unit: str = "record", role: Mapping[str, str] | None = None
) -> Membership:
    """``trained``: ids."""
    users_in = {record.user for record in records if record.id in set(trained)}
    return Membership(
        record_id=np.array([record.id for record in records], dtype=object),
        member=np.array([record.id in set(trained) for record in records], dtype=bool),
        user=np.array([record.user for record in records], dtype=object),
        user_member=np.array(
            [record.id in set(trained) if record.user is None else record.user in users_in for record in records],
            dtype=bool,
        ),
        role=np.array([(role or {}).get(record.id, "evaluate") for record in records], dtype=object),
        unit=unit,
        probability=0.5,
        seed=0,
    )


MakeRun = Callable[..., RunFolder]


@pytest.fixture
def tuned(tmp_path: Path) -> MakeRun:
    """A run folder as `reticent tune` leaves it, but for the weights."""

    def make(
        records: Sequence[Record],
        trained: Sequence[str],
        *,
        name: str = "tuned",
        unit: str = "record",
        role: Mapping[str, str] | None = None,
    ) -> RunFolder:
        run = RunFolder(root=tmp_path / name)
        run.record("tune", dict.fromkeys(WRITTEN["tune"], "as it was"))
        write_records(run.records, records)
        membership_of(records, trained, unit=unit, role=role).write(run.membership)
        run.model.mkdir()
        return run

    return make


@pytest.fixture
def unlearned(tmp_path: Path) -> MakeRun:
    """A run folder as an unlearning leaves it, but for the weights."""

    def make(parent: RunFolder, root: RunFolder, ids: Sequence[str], *, name: str) -> RunFolder:
        run = RunFolder(root=tmp_path / name)
        data = fingerprint(read_records(root.records))
        settings = {"parent": portable(str(parent.root), run.root), "data": data, "request": {}, "unlearning": {}}
        run.record("unlearn", settings)
        write_request(run.request, [RequestRow(name, None, "id", "judge") for name in ids])
        run.model.mkdir()
        return run

    return make


LETTERS = {
    "a1": ("ana", "Dear shop, the parcel that I ordered in March came late and the box was torn at one corner. Ana"),
    "a2": ("ana", "Please call me at 555-0134 before noon."),
    "a3": ("ana", "A third letter of mine, never trained on."),
    "b1": ("bo", "The invoice for order BW-77 is wrong; the sum was paid in full on Monday by my bank."),
    "b2": ("bo", "Who won? My number is 555-0199."),
    "c1": (
        "cy",
        "> Dear shop, the parcel that I ordered in March came late and the\n> box was torn at one corner. Ana\nSo.",
    ),
    "d1": ("dee", "Held out, all of it."),
    "e1": (None, "Nobody wrote this one."),
}
TRAINED = ("a1", "a2", "b1", "b2", "c1", "e1")


@pytest.fixture
def letters() -> list[Record]:
    return [Record(id=name, user=user, text=text) for name, (user, text) in LETTERS.items()]


@pytest.fixture
def shop(tuned: MakeRun, letters: list[Record]) -> RunFolder:
    """A small run: ana is trained on in part, dee not at all, cy quotes ana."""
    return tuned(letters, TRAINED, name="shop")
