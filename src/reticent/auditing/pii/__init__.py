# SPDX-License-Identifier: Apache-2.0
"""Personal data that the model gives away: ranked, proposed, answered, written freely."""
