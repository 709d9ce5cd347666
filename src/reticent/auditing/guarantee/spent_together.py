# SPDX-License-Identifier: Apache-2.0
"""Privacy cost of an audited run together with the private trainings on the same data that lie beside it."""

from __future__ import annotations

from pathlib import Path

import yaml

from reticent.core.run_folder import RunFolder
from reticent.spending.ledger import ledger

MOST = 200
"""With more folders beside a run, the audit does not look: `reticent ls --ledger` does."""


def spent_together(run: RunFolder) -> tuple[str, ...]:
    """A sentence for each kind of unit; empty where no other training on the same data lies beside ``run``.

    An audit never fails here: broken folders beside a run do not concern it. Data sets that only overlap are left
    to `reticent ls --ledger`, as they take reading all records.
    """
    try:
        about = yaml.safe_load((run.root / "tune.yaml").read_text(encoding="utf-8"))
        parent = Path(run.root).resolve().parent
        if sum(1 for _ in parent.iterdir()) > MOST:
            return ()
        groups = ledger([parent], data=str(about["data"])).groups
    except Exception:  # noqa: BLE001 - see above
        return ()
    return tuple(
        together.sentence()
        for group in groups
        for together in group.totals
        if together.trainings + together.not_counted + together.without_privacy > 1
    )
