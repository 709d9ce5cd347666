# SPDX-License-Identifier: Apache-2.0
"""What models say of texts, made of random numbers."""

import numpy as np
import pytest

from reticent.attacks.shadow_models import ShadowScores


def made_up(texts, models, seed, *, share=0.5, gain=0.4, of=None):
    """Scores of texts that some shadow models were trained on; ``of``: the scores that they belong to."""
    rng = np.random.default_rng(seed)
    inside = rng.random((texts, models)) < share
    level = rng.uniform(-4, -0.2, texts)
    shadows = np.minimum(level[:, None] + gain * inside + rng.normal(0, 0.2, inside.shape), -1e-3)
    target = np.minimum(level + rng.normal(0, 0.4, texts), -1e-3)
    return ShadowScores(target=target, shadows=shadows, inside=inside, whole=of)


@pytest.fixture(scope="session", name="made_up")
def _made_up():
    return made_up
