# SPDX-License-Identifier: Apache-2.0
"""Personal data: what the model gives away when it is asked for it."""
