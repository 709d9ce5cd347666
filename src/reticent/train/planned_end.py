# SPDX-License-Identifier: Apache-2.0
"""Check that a private training ran to the end of its plan; an early end is reported by name."""

from __future__ import annotations

from reticent.privacy.check import SelfCheckItem

NAME = "steps of the plan that were run"


def planned_end(ran: int, planned: int) -> SelfCheckItem:
    """For the list of checks of a training that has ended after ``ran`` of ``planned`` steps.

    Who ended the training (a callback that sets ``should_training_stop``, somebody who looked) is not seen from here.
    If it was chosen by what the steps had shown so far, the ε of the steps that ran does not hold for the choice; that
    of all planned steps does, and is what is promised then. If it was chosen by the data itself, nothing covers it. So
    an early end does not pass; nor does it fail, as it may be harmless (a limit of time, say).

    >>> planned_end(17, 30).bound
    '30; after an earlier end all planned steps are promised, and an end that the data chose is not covered'
    """
    return SelfCheckItem(
        name=NAME,
        measured=f"{ran} of {planned}",
        bound=f"{planned}; after an earlier end all planned steps are promised, and an end that the data chose is not "
        "covered",
        passed=True if ran == planned else None,
    )
