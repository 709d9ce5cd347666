# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.report import serve


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    run = tmp_path / "run"
    run.mkdir()
    (run / "report.html").write_text("<p>the report", encoding="utf-8")
    (run / "results.json").write_text("{}", encoding="utf-8")
    (run / "records.parquet").write_text("private", encoding="utf-8")
    with serve.server(run) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


def _ask(port: int, path: str, *, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, headers={"Host": host if host is not None else f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("path", ["/", "/report.html", "/?x=1"])
def test_the_report_is_served_with_security_headers(port: int, path: str) -> None:
    status, headers, body = _ask(port, path)
    assert (status, body) == (200, b"<p>the report")
    assert serve.HEADERS.items() <= headers.items()
    assert headers["Server"] == "reticent "


def test_the_results_are_served_beside_it(port: int) -> None:
    status, headers, body = _ask(port, "/results.json")
    assert (status, body, headers["Content-Type"]) == (200, b"{}", "application/json")


@pytest.mark.parametrize("path", ["/records.parquet", "/..", "/../run/report.html", "/%2e%2e/", "/report.html/", "*"])
def test_nothing_else_is(port: int, path: str) -> None:
    assert _ask(port, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "", "0.0.0.0"])
def test_other_names_are_refused(port: int, host: str) -> None:
    status, _, body = _ask(port, "/", host=host)
    assert status == 403
    assert b"report" not in body


def test_localhost_is_this_machine(port: int) -> None:
    assert _ask(port, "/", host=f"localhost:{port}")[0] == 200


def test_head_has_no_body_and_nothing_can_be_posted(port: int) -> None:
    assert _ask(port, "/", method="HEAD")[::2] == (200, b"")
    assert _ask(port, "/", method="POST")[0] == 501


def test_only_loopback_is_bound(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("x", encoding="utf-8")
    with serve.server(tmp_path / "report.html") as running:
        assert running.server_address[0] == "127.0.0.1"
        with pytest.raises(BadInput, match="cannot be listened on"):
            serve.server(tmp_path, running.server_port)


@pytest.mark.parametrize("place", [".", "report.html", "missing"])
def test_a_missing_report_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(BadInput, match="is no report"):
        serve.server(tmp_path / place)


def test_view_opens_the_browser_and_ends_on_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").write_text("x", encoding="utf-8")
    opened: list[str] = []

    def interrupt(server: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve.webbrowser, "open", opened.append)
    monkeypatch.setattr(serve.ThreadingHTTPServer, "serve_forever", interrupt)
    serve.view(tmp_path)
    assert [address.startswith("http://127.0.0.1:") for address in opened] == [True]
    serve.view(tmp_path, open_browser=False)
    assert len(opened) == 1
