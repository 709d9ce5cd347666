# SPDX-License-Identifier: Apache-2.0
"""Membership of records and users: attacks, their evidence, the levels that are judged, and the findings."""
