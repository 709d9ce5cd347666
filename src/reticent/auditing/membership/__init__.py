# SPDX-License-Identifier: Apache-2.0
"""Membership of records and users: which attacks run, their evidence, their levels, and what is concluded."""
