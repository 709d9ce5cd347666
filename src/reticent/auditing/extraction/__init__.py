# SPDX-License-Identifier: Apache-2.0
"""Extraction: secrets and records that the model writes word for word."""
