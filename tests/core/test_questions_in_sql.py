# SPDX-License-Identifier: Apache-2.0
"""The statements of docs/questions_in_sql.md give what a loop over the tokens gives."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from reticent.core.membership import Membership
from reticent.core.schema import RECORD_COLUMNS, TOKEN_COLUMNS
from reticent.core.table import TokenTable

PAGE = Path(__file__).parents[2] / "docs" / "questions_in_sql.md"
STATEMENTS = dict(
    re.findall(r"^## (.*?)\n.*?^```sql\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
)


class Told(NamedTuple):
    """A record, and what both models said about its tokens."""

    name: str
    member: bool
    user: str
    target: TokenTable
    reference: TokenTable


def table(rng: np.random.Generator, offsets: np.ndarray) -> TokenTable:
    n, tokens = len(offsets) - 1, int(offsets[-1])
    rows: dict[str, Any] = {name: np.zeros(n, dtype=np.int32) for name in RECORD_COLUMNS}
    columns: dict[str, Any] = {
        name: rng.random(tokens).astype(np.float32) for name in ("logp", "entropy", "mu", "sigma")
    }
    columns |= {
        "token_id": np.arange(tokens, dtype=np.int32) % 9,
        "logp": (-13 * rng.random(tokens) ** 2).astype(np.float32),
        "rank": rng.integers(0, 2, tokens).astype(np.int32),
        "loss_mask": np.ones(tokens, dtype=bool),
    }
    rows["record_id"] = np.array([f"r{place}" for place in range(n)], dtype=object)
    return TokenTable(rows=rows, tokens={name: columns[name] for name in TOKEN_COLUMNS}, offsets=offsets)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    """A run folder of 40 records of 6 users, one of them without a token, and one user who is in only."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum([0, *rng.integers(2, 30, 39)])])
    sides = [table(rng, offsets) for _ in range(2)]
    (tmp_path / "runs" / "mail" / "tables").mkdir(parents=True)
    for name, side in zip(("target", "reference"), sides, strict=True):
        side.write(tmp_path / "runs" / "mail" / "tables" / f"evaluate.{name}.parquet")
    user = np.array([f"u{place % 6}" for place in range(40)], dtype=object)
    member = (rng.random(40) < 0.5) | (user == "u3")
    Membership(
        record_id=sides[0].record_id,
        member=member,
        user=user,
        user_member=np.ones(40, dtype=bool),
        role=np.array(["evaluate"] * 40, dtype=object),
        unit="record",
        probability=0.5,
        seed=0,
    ).write(tmp_path / "runs" / "mail" / "membership.parquet")
    monkeypatch.chdir(tmp_path)
    return [
        Told(f"r{place}", bool(member[place]), user[place], *(side.take(np.array([place])) for side in sides))
        for place in range(40)
    ]


def gain(record: Told) -> float:
    return float(record.target["logp"].mean(dtype=np.float64) - record.reference["logp"].mean(dtype=np.float64))


def most_likely(told: list[Told]) -> list[tuple]:
    rows = [(r.name, r.user, int(r.target.lengths[0]), gain(r)) for r in told if r.member and r.target.lengths[0] >= 8]
    return sorted(rows, key=lambda row: (-row[3], row[0]))[:10]


def whose(told: list[Told]) -> list[tuple]:
    sides: dict[str, dict[bool, list[float]]] = defaultdict(lambda: {True: [], False: []})
    for record in told:
        if record.target.lengths[0]:
            sides[record.user][record.member].append(gain(record))
    rows = [
        (user, np.mean(side[True]), np.mean(side[False]), len(side[True]) + len(side[False]))
        for user, side in sides.items()
        if side[True] and side[False]
    ]
    return sorted(rows, key=lambda row: row[2] - row[1])


def learned(told: list[Told]) -> list[tuple]:
    times: Counter[int] = Counter()
    for record in told:
        first = (record.target["rank"] == 0) & (record.reference["rank"] > 0)
        times.update(record.target["token_id"][first].tolist() if record.member else [])
    return sorted(times.items(), key=lambda row: (-row[1], row[0]))[:20]


def longest(told: list[Told]) -> list[tuple]:
    rows = []
    for record in told:
        runs = re.findall("0+", "".join(map(str, record.target["rank"].tolist())))
        if runs:
            rows.append((record.name, max(map(len, runs))))
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:10]


def by_surprise(told: list[Told]) -> list[tuple]:
    bins: dict[int, dict[bool, list[float]]] = defaultdict(lambda: {True: [], False: []})
    for record in told:
        for after, before in zip(record.target["logp"].tolist(), record.reference["logp"].tolist(), strict=True):
            bins[min(int(-before), 10)][record.member].append(after - before)
    return [(n, np.mean(s[True]), np.mean(s[False]), len(s[True]) + len(s[False])) for n, s in sorted(bins.items())]


ANSWERS = {
    "Which records did tuning make most likely?": most_likely,
    "Whose texts does the model know better than their unseen ones?": whose,
    "Which tokens did it learn to put first?": learned,
    "Where would it recite longest?": longest,
    "Is the gain in few surprising tokens, or everywhere?": by_surprise,
}


def test_the_page_has_one_statement_for_each_question() -> None:
    assert list(STATEMENTS) == list(ANSWERS)
    for statement in STATEMENTS.values():
        assert ";" not in statement
        assert set(re.findall(r"runs/mail/([\w./]+)'", statement)) <= {
            "tables/evaluate.target.parquet",
            "tables/evaluate.reference.parquet",
            "membership.parquet",
        }


@pytest.mark.parametrize("question", ANSWERS)
def test_a_statement_gives_what_a_loop_gives(question: str, told: list[Told]) -> None:
    duckdb = pytest.importorskip("duckdb", reason="SQL needs duckdb: pip install 'reticent[sql]'")
    answer = duckdb.sql(STATEMENTS[question]).fetchall()
    expected = ANSWERS[question](told)
    assert len(answer) == len(expected) > 3
    for got, wanted in zip(answer, expected, strict=True):
        for a, b in zip(got, wanted, strict=True):
            assert a == (b if isinstance(b, str | int) else pytest.approx(b, rel=1e-4, abs=1e-5))
