# SPDX-License-Identifier: Apache-2.0
import zlib as compressor

import numpy as np

from reticent.attacks.membership.zlib import zlib


def test_golden(table_of):
    table = table_of([[-1.0, -3.0], [-6.0], []], zlib_bytes=[8, 12, 8])
    np.testing.assert_array_equal(zlib(table), [-0.5, -0.5, np.nan])


def test_a_dull_text_with_the_same_likelihood_is_less_suspicious(table_of):
    dull, rich = b"a" * 40, b"The quick brown fox jumps over 13 dogs."
    table = table_of([[-4.0, -4.0]] * 2, zlib_bytes=[len(compressor.compress(text)) for text in (dull, rich)])
    scores = zlib(table)
    assert scores[0] < scores[1]
