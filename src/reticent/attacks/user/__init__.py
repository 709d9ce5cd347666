# SPDX-License-Identifier: Apache-2.0
"""User inference: was this person's text trained on, judged from texts that need not be training records?"""
