# SPDX-License-Identifier: Apache-2.0
"""Examples in docstrings run in a folder and with a cache of their own, and register nothing for others."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reticent.attacks import ATTACKS

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    ATTACKS.names()  # those of the package are found before it is noted which there are
    monkeypatch.setattr(ATTACKS, "_things", dict(ATTACKS._things))
