# SPDX-License-Identifier: Apache-2.0
"""Unlearning methods, one a file, each named as its file. See `reticent.train.unlearning.method`."""
