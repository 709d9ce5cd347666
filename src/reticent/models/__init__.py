# SPDX-License-Identifier: Apache-2.0
"""Language models: where they come from, how they are loaded, how a record becomes tokens, and how they are tuned."""
