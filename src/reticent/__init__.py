# SPDX-License-Identifier: Apache-2.0
"""Audit, protect and repair language models that were fine-tuned on private text."""

__version__ = "0.1.0"
