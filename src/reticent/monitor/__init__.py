# SPDX-License-Identifier: Apache-2.0
"""Looking at a fixed panel of records while the model trains: what it learns, what it memorizes, and when to stop."""
