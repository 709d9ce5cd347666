# SPDX-License-Identifier: Apache-2.0
"""The error of a training that came to nothing. Apart from the training loop, so that it can be named without torch."""

from __future__ import annotations

from reticent.core.errors import BadInput


class Diverged(BadInput):
    """The loss is no longer finite; going on from a checkpoint would end the same way."""
