# SPDX-License-Identifier: Apache-2.0
"""All tests here train."""

import pytest


@pytest.fixture(autouse=True)
def always(one_thread):
    """On one thread."""
