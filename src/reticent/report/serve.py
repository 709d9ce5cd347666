# SPDX-License-Identifier: Apache-2.0
"""Show one report in the browser, served to this machine only."""

from __future__ import annotations

import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.progress import console

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer. The page's own policy is stricter (its style by hash); browsers apply both."""


def view(path: str | Path, port: int = 0, open_browser: bool = True) -> None:
    """Serve the report at ``path`` on 127.0.0.1 until Ctrl-C.

    Args:
        path: ``report.html``, or the run folder that holds it.
        port: to listen on; 0 takes a free one.
        open_browser: whether to open it.

    Raises:
        BadInput: there is no report, or the port is taken.
    """
    with server(path, port) as running:
        address = f"http://127.0.0.1:{running.server_port}/"
        console.print(f"Report at {address} (this machine only). Ctrl-C ends.", highlight=False)
        if open_browser:
            webbrowser.open(address)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            console.print("Stopped.")


def server(path: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of one report and the ``results.json`` beside it, bound to loopback and not yet running.

    Raises:
        BadInput: there is no report, or the port is taken.
    """
    report = Path(path)
    if report.is_dir():
        report = report / "report.html"
    if not report.is_file():
        raise BadInput(str(report), "is no report", "Give a report.html, or the run folder of `reticent audit`.")
    files = {
        "/": (report, "text/html; charset=utf-8"),
        "/report.html": (report, "text/html; charset=utf-8"),
        "/results.json": (report.parent / "results.json", "application/json"),
    }
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), _handler(files))
    except (OSError, OverflowError) as error:
        raise BadInput(f"port {port}", f"cannot be listened on ({error})", "Give another --port, or 0.") from error


def _read(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none any more."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _handler(files: dict[str, tuple[Path, str]]) -> type[BaseHTTPRequestHandler]:
    """A handler that knows these paths and no others: no folder is ever looked at for what a request names."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "reticent", ""

        def do_GET(self) -> None:
            self._answer(*self._find())

        def do_HEAD(self) -> None:
            self._answer(*self._find(), with_body=False)

        def log_message(self, format: str, *args: object) -> None:
            """Silent: the address of a report is nothing to log."""

        def _find(self) -> tuple[HTTPStatus, bytes, str]:
            """The file asked for; refused when the request came under a name that is not this machine's.

            A page of another site can point its own name at 127.0.0.1 and read what is served there; the Host
            header then holds that name.
            """
            assert isinstance(self.server, ThreadingHTTPServer)
            port = self.server.server_port
            if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
                return HTTPStatus.FORBIDDEN, b"Only for this machine.\n", "text/plain"
            path, kind = files.get(self.path.partition("?")[0], (None, ""))
            body = None if path is None else _read(path)
            if body is None:
                return HTTPStatus.NOT_FOUND, b"Not found.\n", "text/plain"
            return HTTPStatus.OK, body, kind

        def _answer(self, status: HTTPStatus, body: bytes, kind: str, *, with_body: bool = True) -> None:
            self.send_response(status)
            for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    return Handler
