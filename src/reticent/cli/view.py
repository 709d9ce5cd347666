# SPDX-License-Identifier: Apache-2.0
"""`reticent view`: look at a report in the browser."""

from __future__ import annotations

from pathlib import Path


def command(run: str, *, port: int = 0, open_browser: bool = True) -> int:
    """Serve one report on this machine only (loopback) until Ctrl-C.

    Args:
        run: a run folder or a report.html.
        port: 0 picks a free one.
        open_browser: open it at once.
    """
    from reticent.core.errors import BadInput
    from reticent.report.serve import view as serve

    if not 0 <= port <= 65535:
        raise BadInput(f"port={port}", "is no port", "Give 0, or a number up to 65535.")
    path = Path(run)
    serve(path / "report.html" if path.is_dir() else path, port=port, open_browser=open_browser)
    return 0
