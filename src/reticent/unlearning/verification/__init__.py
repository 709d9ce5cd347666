# SPDX-License-Identifier: Apache-2.0
"""Verification of an unlearning: `verify` runs every check of this package and gives `UnlearningResults`."""
