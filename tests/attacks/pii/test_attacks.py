# SPDX-License-Identifier: Apache-2.0
"""Each attack on evidence whose answer can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.attacks.pii import Answers, CandidateRanking, FreeMentions, ProposedFills
from reticent.attacks.pii.association_greedy import association_greedy
from reticent.attacks.pii.extraction import extraction, precision
from reticent.attacks.pii.inference import inference
from reticent.attacks.pii.inference_calibrated import inference_calibrated
from reticent.attacks.pii.reconstruction import reconstruction


def test_inference_ranks_by_likelihood_and_calibrated_by_gain():
    target = CandidateRanking(logp=[np.array([-9.0, -1.0, -4.0]), np.array([-2.0, -3.0])], truth=np.array([2, 0]))
    base = CandidateRanking(logp=[np.array([-9.5, -1.0, -9.0]), np.array([-2.0, -4.0])], truth=np.array([2, 0]))
    np.testing.assert_array_equal(inference(target), [2, 1])
    np.testing.assert_array_equal(inference_calibrated(target, base), [1, 2])


def test_reconstruction_ranks_its_own_proposals():
    proposed = ProposedFills(
        secrets=["ann", "bob", "eve"],
        values=[("x", "ann"), ("x",), ()],
        perplexity=[np.array([2.0, 3.0]), np.array([1.0]), np.zeros(0)],
    )
    np.testing.assert_array_equal(reconstruction(proposed), [2, np.inf, np.inf])


def test_what_is_written_is_found():
    answered = Answers(secrets=["a1b2", "c3d4"], texts=[["no", "it is A1-B2!"], ["c3d45", ""]])
    np.testing.assert_array_equal(association_greedy(answered), [1, 0])
    listed = FreeMentions(secrets=["a1b2", "c3d4"], found=["a1b2", "e5"], text="say a1b2\n\nand c3d")
    np.testing.assert_array_equal(extraction(listed), [1, 0])
    np.testing.assert_array_equal(precision(listed), [1, 0])


def test_evidence_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="not among"):
        CandidateRanking(logp=[np.zeros(2)], truth=np.array([2]))
    with pytest.raises(ValueError, match="every place"):
        CandidateRanking(logp=[np.zeros(2)], truth=np.array([1, 1]))
    with pytest.raises(ValueError, match="perplexity"):
        ProposedFills(secrets=["a"], values=[("x",)], perplexity=[np.zeros(2)])
    with pytest.raises(ValueError, match="true value"):
        ProposedFills(secrets=[], values=[("x",)], perplexity=[np.zeros(1)])
    with pytest.raises(ValueError, match="answers"):
        Answers(secrets=["a"], texts=[])
