# SPDX-License-Identifier: Apache-2.0
"""The verdicts on models of which it is known how much they have forgotten."""

from __future__ import annotations

import time


def test_x(results):
    for kind in ("retrained", "untouched", "refusing", "over_unlearned"):
        t = time.time()
        r = results(kind)
        print(kind, time.time() - t, r.verdict.status)
        for s in r.verdict.sentences:
            print("   ", s)
        print("   ", {c.name: (c.word, c.knew) for c in r.checks if c.ran})
