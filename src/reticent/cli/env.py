# SPDX-License-Identifier: Apache-2.0
"""`reticent env`: versions and hardware, to paste into a bug report."""

from __future__ import annotations

import json

from reticent.core.manifest import environment


def command() -> int:
    """Print versions and hardware as JSON; no names, no paths."""
    print(json.dumps(environment(), indent=2))
    return 0
