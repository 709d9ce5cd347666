# SPDX-License-Identifier: Apache-2.0
"""Workers that fill the store: one way a file."""
