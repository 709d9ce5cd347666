# SPDX-License-Identifier: Apache-2.0
"""Experiment trackers, checked before anything is trained."""

from __future__ import annotations

from transformers.integrations import get_reporting_integration_callbacks

from reticent.core.errors import BadInput


def check_trackers(report_to: str) -> None:
    """Refuse a tracker that is unknown or not installed.

    Raises:
        BadInput: it is; says what the library says.
    """
    try:
        for tracker in get_reporting_integration_callbacks([] if report_to in ("none", "all") else [report_to]):
            tracker()
    except ValueError as error:
        raise BadInput(f"report_to={report_to!r}", str(error).rstrip("."), 'Choose one of them, or "none".') from error
    except (RuntimeError, ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise BadInput(
            f"report_to={report_to!r}", f"cannot be used here ({reason})", 'Install it, or choose "none".'
        ) from error
