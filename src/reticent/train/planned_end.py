# SPDX-License-Identifier: Apache-2.0
"""Whether a private training ran to the end of its plan, said by name where it did not."""

from __future__ import annotations

from reticent.privacy.check import Check

NAME = "steps of the plan that were run"


def planned_end(ran: int, planned: int) -> Check:
    """For the list of checks of a training that has ended after ``ran`` of ``planned`` steps.

    The promise is that of the steps that ran, and holds for each number of them that is fixed beforehand. Who ended the
    training (a callback that sets ``should_training_stop``, somebody who looked) cannot be seen from here. If the data
    decided, the choice of that moment is a further message about them, of at most log2(planned) bits, which no noise
    covers. So an early end does not pass; nor does it fail, as it may be harmless (a limit of time, say).

    >>> planned_end(17, 30).bound
    '30, or an end that the data had no part in: the promise does not cover who chose to stop'
    """
    return Check(
        name=NAME,
        measured=f"{ran} of {planned}",
        bound=f"{planned}, or an end that the data had no part in: the promise does not cover who chose to stop",
        passed=True if ran == planned else None,
    )
