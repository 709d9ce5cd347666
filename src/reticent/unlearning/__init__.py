# SPDX-License-Identifier: Apache-2.0
"""Unlearning: who is to be forgotten, when to stop, and the proof of how far it worked."""
