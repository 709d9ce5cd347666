# SPDX-License-Identifier: Apache-2.0
"""The learned attack: its arithmetic against loops, its file against its recipe, and nothing found where nothing is."""

import hashlib
import json
import math

import numpy as np
import pytest

from reticent.attacks.attack import ATTACKS
from reticent.attacks.membership import learned
from reticent.attacks.membership.ez_mia import ez_mia
from reticent.attacks.membership.wbc import wbc
from reticent.core.errors import BadInput
from reticent.core.table import TokenTable
from reticent.stats.roc import auc
from reticent.testing.planted import plant


def tables(records=12, seed=0, **options):
    planted = plant(ATTACKS.get("learned"), records=records, seed=seed, **options)
    made = {name: table.trained() for name, table in planted.tables.items()}
    return made["table"], made["ref"], planted.member


def shape(weights):
    return {name: array.tolist() for name, array in weights.items()}


def slow_score(weights, tokens, record):
    """One record by plain loops: tokens is a list of lists, record a list."""
    w = shape(weights)

    def convolve(rows, kernel, bias):
        width = len(kernel[0][0])
        out = []
        for place in range(len(rows)):
            row = []
            for channel, offset in enumerate(bias):
                total = offset
                for shift in range(width):
                    near = place + shift - width // 2
                    if 0 <= near < len(rows):
                        for source, value in enumerate(rows[near]):
                            total += kernel[channel][source][shift] * value
                row.append(max(total, 0.0))
            out.append(row)
        return out

    def dot(one, other):
        return math.fsum(a * b for a, b in zip(one, other, strict=True))

    hidden = convolve(tokens, w["first.weight"], w["first.bias"])
    deep = convolve(hidden, w["second.weight"], w["second.bias"])
    hidden = [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(hidden, deep, strict=True)]
    channels, count = range(len(hidden[0])), len(hidden)
    told = [math.fsum(row[c] for row in hidden) / count for c in channels]
    for head in w["attend.weight"]:
        shares = [math.exp(dot(head, row)) for row in hidden]
        told += [math.fsum(s * row[c] for s, row in zip(shares, hidden, strict=True)) / sum(shares) for c in channels]
    for row, offset in zip(w["amount.weight"], w["amount.bias"], strict=True):
        told.append(math.log(math.fsum(max(dot(row, one) + offset, 0.0) for one in hidden) / count + 0.01))
    told += record
    told = [(x - c) / s for x, c, s in zip(told, w["centre"], w["scale"], strict=True)]
    inner = [max(dot(row, told) + b, 0.0) for row, b in zip(w["inner.weight"], w["inner.bias"], strict=True)]
    return dot(w["outer.weight"][0], inner) + dot(w["direct.weight"][0], told)


def slow_tokens(table, ref, row):
    """The 13 features of each token of a row, by the formulas."""
    out = []
    for place, i in enumerate(range(table.offsets[row], table.offsets[row + 1])):
        a, b = (
            {name: float(one[name][i]) for name in ("logp", "rank", "entropy", "mu", "sigma")} for one in (table, ref)
        )
        gain = a["logp"] - b["logp"]
        z, z_ref = (math.tanh((one["logp"] - one["mu"]) / (2 * max(one["sigma"], 0.001))) for one in (a, b))
        out.append(
            [
                math.log1p(-a["logp"]),
                math.log1p(-b["logp"]),
                math.tanh(gain),
                math.tanh(10 * gain),
                math.copysign(math.log1p(abs(gain)), gain),
                math.log1p(a["rank"]) / 5,
                math.log1p(b["rank"]) / 5,
                float(a["rank"] > 0),
                float(b["rank"] > 0),
                a["entropy"] / 4,
                a["entropy"] - b["entropy"],
                z - z_ref,
                math.log1p(min(place, 96)) / 4,
            ]
        )
    return out


def slow_record(table, ref, row):
    """The 7 features of a row, by the formulas."""
    where = range(table.offsets[row], table.offsets[row + 1])
    logp, logp_ref = ([float(one["logp"][i]) for i in where] for one in (table, ref))
    gain = [a - b for a, b in zip(logp, logp_ref, strict=True)]
    mean = sum(gain) / len(gain)
    spread = math.sqrt(max(sum(g * g for g in gain) / len(gain) - mean**2, 0))
    shares = [float(f(table.take([row]), ref.take([row]))[0]) for f in (ez_mia, wbc)]
    loss, loss_ref = (math.log(0.05 - sum(one) / len(one)) for one in (logp, logp_ref))
    length = min(len(gain), 96)
    return [
        *(math.log((share + 0.02) / (1.02 - share)) for share in shares),
        loss - loss_ref,
        loss_ref,
        math.asinh(5 * mean),
        math.asinh(mean * math.sqrt(length) / (spread + 0.02)),
        math.log(length) / 4,
    ]


def test_equals_loops():
    table, ref, _ = tables()
    slow = [
        slow_score(learned.load_weights(), slow_tokens(table, ref, row), slow_record(table, ref, row))
        for row in range(len(table))
    ]
    np.testing.assert_allclose(learned.learned(table, ref), slow, atol=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_planted_nothing_found(seed):
    table, ref, member = tables(records=2000, seed=seed, gain=0.0)
    score = learned.learned(table, ref)
    found = auc(score[member], score[~member], confidence=0.999)
    assert found.lo < 0.5 < found.hi


def test_labels_thrown_anew_give_half():
    """Texts of which half are memorized, against coins that know nothing of it."""
    table, ref, _ = tables(records=2000)
    score = learned.learned(table, ref)
    for seed in range(5):
        coin = np.random.default_rng(seed).random(len(score)) < 0.5
        found = auc(score[coin], score[~coin], confidence=0.999)
        assert found.lo < 0.5 < found.hi


def test_company_does_not_show(monkeypatch):
    table, ref, _ = tables(records=200)
    whole = learned.learned(table, ref)
    alone = [learned.learned(table.take([row]), ref.take([row]))[0] for row in range(len(table))]
    np.testing.assert_array_equal(whole, alone)
    monkeypatch.setattr(learned, "_TOKENS", 50)
    np.testing.assert_array_equal(whole, learned.learned(table, ref))


def test_extremes_are_finite():
    columns = {
        "logp": [0.0, 0.0, -120.0, -1e4, -1e-7, -3.0],
        "rank": [0, 0, 49151, 250000, 0, 5],
        "entropy": [0.0, 12.4, 0.0, 5.0, 1.0, 2.0],
        "mu": [0.0, -12.4, 0.0, -5.0, -1.0, -2.0],
        "sigma": [0.0, 0.0, 0.0, 10.0, 1e-9, 1.0],
    }
    table = TokenTable(
        rows={},
        tokens={
            name: np.array(column, dtype=np.int32 if name == "rank" else np.float32) for name, column in columns.items()
        },
        offsets=np.array([0, 1, 2, 6]),
    )
    other = TokenTable(
        rows={}, tokens={name: column[::-1].copy() for name, column in table.tokens.items()}, offsets=table.offsets
    )
    for one, two in ((table, other), (table, table), (other, table)):
        assert np.isfinite(learned.learned(one, two)).all()
    assert learned.edge_cases(table, other) == {"fewer than 8 tokens, shorter than any text of the training": 3}
    assert learned.learned(table.take([]), other.take([])).shape == (0,)


def test_the_file_is_the_recipes():
    recipe = json.loads(learned.RECIPE.read_text(encoding="utf-8"))
    raw = learned.WEIGHTS.read_bytes()
    assert hashlib.sha256(raw).hexdigest() == recipe["sha256"]
    assert len(raw) < 300_000
    assert recipe["parameters"] == sum(array.size for array in learned.load_weights().values())
    assert {run["texts"] for run in recipe["runs"]} == set(recipe["texts"])
    assert not {"mails", "judgments", "comments", "reviews"} & set(recipe["texts"])


def test_a_changed_file_is_refused(tmp_path):
    changed = bytearray(learned.WEIGHTS.read_bytes())
    changed[-1] ^= 1
    (tmp_path / "learned.safetensors").write_bytes(changed)
    with pytest.raises(BadInput, match="SHA-256"):
        learned.read_weights(
            tmp_path / "learned.safetensors", json.loads(learned.RECIPE.read_text(encoding="utf-8"))["sha256"]
        )
