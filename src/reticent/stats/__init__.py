# SPDX-License-Identifier: Apache-2.0
"""Statistics of an audit: two arrays of scores in, Estimates out. numpy and scipy only; no model, no file."""
