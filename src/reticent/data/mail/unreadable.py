# SPDX-License-Identifier: Apache-2.0
"""Why a mail cannot become a record: without its text, and without its sender's address."""

from __future__ import annotations


class Unreadable(Exception):
    """A mail of which the writer or the text cannot be told for certain.

    Args:
        why: goes on after the place of the mail: "has no address of a sender".
        fix: what to do.
    """

    def __init__(self, why: str, fix: str = "Skip such mails (--on_bad_row skip).") -> None:
        self.why, self.fix = why, fix
        super().__init__(why)
