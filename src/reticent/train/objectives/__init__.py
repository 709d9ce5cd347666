# SPDX-License-Identifier: Apache-2.0
"""Training objectives, one a file: what is trained on, and what is minimised. See `objective`."""
