# SPDX-License-Identifier: Apache-2.0
"""ε of a federation with client-level privacy, as three ways of counting state it for the same noise, and the noise
that each needs for ε = 8.

=============  =====================================================================================================
``ours``       each client by a coin of its own; Poisson-sampled Gaussian, privacy loss distributions
``flower``     the accountant of Flower 1.42 for fixed clipping, by its formula: samples of an exact size, amplification
               "no-amplification", so each round is one Gaussian mechanism of multiplier z, composed over rounds by
               Rényi divergences (dp_accounting's ``RdpAccountant`` at its default orders). No Flower is needed, or run
``none``       null: Flower's adaptive clipping, its local mode and its secure aggregation state no ε
=============  =====================================================================================================

The two are about different draws: Flower takes exactly n of N clients, where amplification holds too, but for replacing
a client and by other formulas than those of coins. Its number is an upper bound that is true and loose.

    python benchmarks/federated_epsilon.py --json benchmarks/results/federated_epsilon.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant

from reticent.federated.client_mechanism import ClientMechanism, calibrated
from reticent.federated.client_privacy import ClientPrivacy

KEY = hashlib.sha256(b"a key for measuring").digest()
TARGET = 8.0


class Setting(NamedTuple):
    """N clients, n expected a round, rounds, z, δ."""

    clients: int
    expected: int
    rounds: int
    noise_multiplier: float
    delta: float


SETTINGS = (
    Setting(98, 20, 30, 1.0, 1e-3),
    Setting(98, 20, 15, 1.5, 1e-3),
    Setting(2000, 200, 30, 1.0, 1e-5),
    Setting(2000, 200, 30, 0.7, 1e-5),
    Setting(2000, 128, 16, 0.575, 1e-4),
    Setting(100_000, 1000, 200, 0.6, 1e-6),
)


def measure(setting: Setting, *, calibrate: bool = True) -> dict[str, Any]:
    """A row of the table."""
    clients, expected, rounds, noise, delta = setting
    mechanism = ClientMechanism(
        clients=clients,
        expected=expected,
        rounds=rounds,
        noise_multiplier=noise,
        clip_norm=1.0,
        delta=delta,
        key=KEY,
    )
    row: dict[str, Any] = {
        **setting._asdict(),
        "ours": round(mechanism.epsilon().epsilon, 3),
        "flower": round(without_amplification(noise, rounds, delta), 3),
        "none": None,
    }
    if calibrate:
        spec = ClientPrivacy(epsilon=TARGET, delta=delta)
        needed = calibrated(spec, clients=clients, expected=expected, rounds=rounds, key=KEY)
        row["noise_for_8"] = {
            "ours": round(needed.noise_multiplier, 3),
            "flower": round(flower_noise(rounds, delta), 3),
        }
    return row


def without_amplification(noise_multiplier: float, rounds: int, delta: float) -> float:
    """ε as Flower's accountant states it.

    >>> round(without_amplification(1.0, 30, 1e-3), 3)
    33.723
    """
    accountant = RdpAccountant()
    accountant.compose(dp_event.SelfComposedDpEvent(dp_event.GaussianDpEvent(noise_multiplier), rounds))
    return float(accountant.get_epsilon(delta))


def flower_noise(rounds: int, delta: float, epsilon: float = TARGET) -> float:
    """The noise multiplier with which Flower's accountant states an ε."""
    low, high = 0.1, 100.0 * math.sqrt(rounds)
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        if without_amplification(middle, rounds, delta) > epsilon:
            low = middle
        else:
            high = middle
    return high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for setting in SETTINGS:
        rows.append(measure(setting))
        print(json.dumps(rows[-1]), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
