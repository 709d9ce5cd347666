# SPDX-License-Identifier: Apache-2.0
"""The workflows that a person runs from start to end: prepare, tune, audit, gate, compare two audits, and the demo."""
