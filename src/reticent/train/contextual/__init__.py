# SPDX-License-Identifier: Apache-2.0
"""Learn the subject of private texts and not the people in them: the methods of PrivacyMind, one a file."""
