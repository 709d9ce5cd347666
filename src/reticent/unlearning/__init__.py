# SPDX-License-Identifier: Apache-2.0
"""Unlearning: who is to be forgotten, how far it went, and what is shown of it."""
