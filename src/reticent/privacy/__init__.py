# SPDX-License-Identifier: Apache-2.0
"""Differential privacy: what is promised (spec, plan, accounting) and what keeps it (sampling, clipping, noise)."""
