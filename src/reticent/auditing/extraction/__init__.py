# SPDX-License-Identifier: Apache-2.0
"""Extraction: what the model writes word for word."""
