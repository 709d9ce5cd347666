# SPDX-License-Identifier: Apache-2.0
"""One self-contained page from a template: what all our pages have in common.

What comes from outside is escaped by jinja2. The content security policy allows a page's own style sheet, by its hash,
and nothing else: no script runs, whatever a text may hold, and nothing is asked of any network.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


@cache
def made_by() -> str:
    """Version of this package, which pages name."""
    try:
        return version("reticent")
    except PackageNotFoundError:
        return "unknown"


def coded(text: str) -> Markup:
    """The text escaped, with what stands between backquotes, and flags, as code.

    >>> str(coded("add --whitebox, or `reticent tune --canaries 9`; a < b"))
    'add <code class="command">--whitebox</code>, or <code>reticent tune --canaries 9</code>; a &lt; b'
    """
    marked = re.sub(r"`([^`]+)`|(?<![\w-])(--[a-z][a-z_]*(?: all\b| user\b)?)", _as_code, str(escape(text)))
    return Markup(marked)  # noqa: S704 - escaped above


def _as_code(match: re.Match[str]) -> str:
    return f"<code>{match[1]}</code>" if match[1] else f'<code class="command">{match[2]}</code>'


def environment(filters: Mapping[str, Any], names: Mapping[str, Any]) -> Environment:
    """Our templates, with the filters and global names that a page needs beyond those of all pages."""
    env = Environment(
        loader=PackageLoader("reticent.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    env.filters |= {
        "breakable": lambda name: Markup("_<wbr>").join(name.split("_")),
        "coded": coded,
        "day": lambda created: created[:16].replace("T", " "),
        "spaced": lambda text: text.replace("_", " "),
        **filters,
    }
    env.globals |= {"is_mapping": lambda value: isinstance(value, Mapping), **names}
    return env


def filled(templates: Environment, name: str, content: Mapping[str, Any], *, curves: int = 0, more: str = "") -> str:
    """The whole page. Equal content gives equal bytes.

    Args:
        templates: of `environment`.
        name: of the template.
        content: what it shows.
        curves: how many curves of its charts can be chosen.
        more: a further style sheet.
    """
    style = templates.get_template("style.css").render(indices=range(curves))
    style += templates.get_template(more).render() if more else ""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = templates.get_template(name)
    return page.render(style=Markup(style), style_hash=digest, **content)  # noqa: S704 - our own style sheet
