# SPDX-License-Identifier: Apache-2.0
"""Run a model over records and keep what it says of every token: the only part that runs a model for an audit.

Import the modules by name. This file imports nothing, so that ``score.requests`` can be had without torch.
"""
