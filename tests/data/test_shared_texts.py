# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.secret import Secret
from reticent.data.secrets_file import carried_secrets
from reticent.data.shared_texts import set_aside_shared
from reticent.data.split import split


def mails(users: int = 12) -> list[Record]:
    own = [Record(id=f"u{u}m{i}", text=f"mail {i} of {u}", user=f"u{u}") for u in range(users) for i in range(6)]
    letters = [Record(id=f"u{u}letter", text="We wish you well", user=f"u{u}") for u in range(users)]
    twice = [Record(id=f"u0again{i}", text="own phrase", user="u0") for i in range(2)]
    return [*own, *letters, *twice]


@pytest.mark.parametrize("unit", ["record", "user"])
def test_roles_follow_from_texts_and_never_from_coins(unit: str) -> None:
    shared = [record.text == "We wish you well" for record in mails()]
    for seed in range(5):
        coins = split(mails(), unit=unit, seed=seed)
        found = set_aside_shared(mails(), coins)
        assert (found.role == "shared").tolist() == shared
        assert found.role[~np.array(shared)].tolist() == coins.role[~np.array(shared)].tolist()
        assert found.member.tolist() == coins.member.tolist()
        assert not found.attacked[shared].any()


def test_where_nothing_is_shared_nothing_changes() -> None:
    alone = [record for record in mails() if record.text != "We wish you well"]
    coins = split(alone, unit="user", seed=0)
    assert set_aside_shared(alone, coins) is coins


def test_what_everybody_wrote_cannot_be_evaluated() -> None:
    records = [Record(id=f"{u}-{i}", text=f"letter {i}", user=f"u{u}") for u in range(8) for i in range(8)]
    with pytest.raises(BadInput, match="no members and no held-out records"):
        set_aside_shared(records, split(records, unit="user", seed=0))


def test_a_secret_in_a_shared_text_was_trained_on_if_anybodys_copy_was() -> None:
    records = mails()
    coins = split(records, unit="user", seed=1)
    letters = np.array([record.text == "We wish you well" for record in records])
    assert 0 < coins.member[letters].sum() < letters.sum()
    target = Secret(id="t", record=records[-3], start=0, end=7, kind="X", group="g", member=False)
    assert target.record.text == "We wish you well"
    for order in (1, -1):
        rows = np.arange(len(records))[::order]
        turned = [records[row] for row in rows]
        (found,) = carried_secrets([target], turned, turned, coins.take(rows))
        assert found.member
