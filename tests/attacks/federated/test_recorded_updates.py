# SPDX-License-Identifier: Apache-2.0
"""Files of recorded updates: what is written is read, and what is something else is refused."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.attacks.federated.recorded_updates import RecordedUpdates
from reticent.core.errors import BadInput

ANA, BEN = "00000000000000aa", "00000000000000bb"


@pytest.fixture
def recorded(tmp_path):
    recorded = RecordedUpdates(tmp_path / "updates")
    for round_ in (0, 12):
        recorded.write({"a": np.full((2, 3), round_, dtype=np.float32)}, round_=round_)
        for client, value in ((ANA, 1.0), (BEN, 2.0)):
            recorded.write({"a": np.full((2, 3), value + round_, dtype=np.float32)}, round_=round_, client=client)
    return recorded


def test_what_is_written_is_read(recorded):
    assert recorded.rounds() == (0, 12)
    assert recorded.clients(12) == (ANA, BEN)
    assert recorded.update(12, BEN)["a"].tolist() == [[14.0] * 3] * 2
    assert recorded.start(12)["a"].tolist() == [[12.0] * 3] * 2


def test_a_file_in_the_place_of_another_is_refused(recorded):
    here = recorded.root / "round-0000" / f"client-{ANA}.safetensors"
    for other in (f"round-0012/client-{ANA}", f"round-0000/client-{BEN}", "round-0000/global"):
        here.write_bytes((recorded.root / f"{other}.safetensors").read_bytes())
        with pytest.raises(BadInput, match="something else"):
            recorded.update(0, ANA)


def test_broken_and_missing_files_and_wrong_names_are_refused(recorded):
    (recorded.root / "round-0000" / f"client-{ANA}.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadInput, match="cannot be read"):
        recorded.update(0, ANA)
    with pytest.raises(BadInput, match="cannot be read"):
        recorded.update(7, ANA)
    with pytest.raises(BadInput, match="no hash"):
        recorded.update(0, "../../secret")
    recorded.write({"a": np.array([np.nan], dtype=np.float32)}, round_=0, client=BEN)
    with pytest.raises(BadInput, match="not finite"):
        recorded.update(0, BEN)
