# SPDX-License-Identifier: Apache-2.0
"""Run folders as `reticent tune` leaves them, without any training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from reticent.core.manifest import write_manifest
from reticent.core.membership import Membership
from reticent.core.record import Record, fingerprint, write_records
from reticent.core.run_folder import RunFolder
from reticent.privacy import accounting
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.mechanism import Mechanism

MakePromise = Callable[..., PrivacyGuarantee]
MakeRun = Callable[..., RunFolder]


@pytest.fixture
def promise() -> MakePromise:
    def make(unit: str = "user", *, noise: float = 2.0, rate: float = 0.125, steps: int = 40, delta: float = 1e-3,
             owned: int = 1, black_box: bool = False, **more: Any) -> PrivacyGuarantee:  # fmt: skip
        mechanism = Mechanism(noise_multiplier=noise, rate=rate, owned=owned, black_box=black_box)
        cost = accounting.spent(mechanism, steps=steps, delta=delta)
        made = PrivacyGuarantee(
            epsilon=cost.epsilon, check=cost.check, delta=delta, unit=unit, neighbouring=f"add or remove one {unit}",
            mechanism="Poisson-sampled Gaussian mechanism", accountant="PLD accountant", noise_multiplier=noise,
            rate=rate, steps=steps, units=12, owned=owned, black_box=black_box,
        )  # fmt: skip
        return replace(made, **more)

    return make


@pytest.fixture
def make_run() -> MakeRun:
    def make(
        root: Path,
        records: Sequence[Record],
        promised: PrivacyGuarantee | None = None,
        *,
        weights: bool = True,
        base: str = "base",
    ) -> RunFolder:
        run = RunFolder(root=root)
        root.mkdir(parents=True)
        about: dict[str, Any] = {"base": base, "data": fingerprint(records)}
        if promised is not None:
            about["privacy"] = {"epsilon": promised.epsilon}
        (root / "tune.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
        write_records(run.records, records)
        users = np.array([record.user for record in records], dtype=object)
        inside = np.array([i % 2 == 0 for i in range(len(records))])
        Membership(
            record_id=np.array([record.id for record in records], dtype=object), member=inside, user=users,
            user_member=np.ones(len(records), dtype=bool), role=np.full(len(records), "evaluate", dtype=object),
            unit="record", probability=0.5, seed=0,
        ).write(run.membership)  # fmt: skip
        said: dict[str, Any] = dict(about)
        if promised is not None:
            said["promise"] = json.loads(promised.to_json())
        if weights:
            run.model.mkdir()
            if promised is not None:
                run.promise.write_text(promised.to_json(), encoding="utf-8")
        write_manifest(run.manifest, tune=said)
        return run

    return make
