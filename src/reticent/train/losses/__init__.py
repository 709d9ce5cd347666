# SPDX-License-Identifier: Apache-2.0
"""Losses that make a model memorize less, one a file."""
