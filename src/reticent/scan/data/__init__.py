# SPDX-License-Identifier: Apache-2.0
"""Scanners of training data: inserted words and passages that decide labels, and groups that stand apart."""
