# SPDX-License-Identifier: Apache-2.0
"""Secure aggregation: a server learns the sum of what clients send, and nothing of what one of them sent."""
