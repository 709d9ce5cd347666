# SPDX-License-Identifier: Apache-2.0
"""Language models: where they come from, how they are loaded, how a record becomes tokens, and how they are tuned."""

from __future__ import annotations

import warnings

# PEFT asks transformers under an old name; nobody who reads our output can do anything about it.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
