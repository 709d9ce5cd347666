# SPDX-License-Identifier: Apache-2.0
"""`reticent fetch-model`: bring a catalogue model onto this machine."""

from __future__ import annotations


def command(name: str) -> int:
    """Download a model of the catalogue, check its hash and keep it in the user's cache. Asks the network.

    Args:
        name: e.g. smollm2-135m.
    """
    from reticent.models.catalog import fetch

    print(fetch(name))
    return 0
