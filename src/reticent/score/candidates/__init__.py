# SPDX-License-Identifier: Apache-2.0
"""Candidates for a masked span, ranked by a model."""
