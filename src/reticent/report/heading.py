# SPDX-License-Identifier: Apache-2.0
"""The heading of a report: which model, whose data, when, made with what, and the results that it was made of.

Only what the results hold. They know no user and no machine by name, so neither does the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from reticent.core.results import Results


def model_name(results: Results) -> str:
    """The audited model as the results call it; the report's title where they do not.

    >>> from types import SimpleNamespace
    >>> model_name(SimpleNamespace(provenance={"models": {"target": "mails/model"}}, title="mails.jsonl"))
    'mails/model'
    """
    target = _mapping(results.provenance.get("models")).get("target")
    source = target.get("source") if isinstance(target, Mapping) else target
    return str(source or results.title or "model without a name")


def base_name(results: Results) -> str:
    """The model that it was tuned from or is compared with; empty where none is named."""
    base = _mapping(results.provenance.get("training")).get("base")
    reference = _mapping(results.provenance.get("models")).get("reference")
    source = reference.get("source") if isinstance(reference, Mapping) else reference
    return str(source or (PurePath(str(base)).name if base else ""))


def version(results: Results) -> str:
    """Of the reticent that made the results; empty where they do not say."""
    packages = _mapping(_mapping(results.provenance.get("environment")).get("packages"))
    return str(packages.get("reticent", ""))


def facts(results: Results) -> list[tuple[str, str]]:
    """``(name, what it is)`` in the order of the page, what is unknown left out."""
    program = version(results)
    rows = [
        ("Model", _model(results)),
        ("Data", _data(results)),
        ("Records", _sides(results, "trained_on", "evaluated_held_out", "records")),
        ("People", _sides(results, "member_users", "held_out_users", "users")),
        ("Audited", f"{results.created[:16].replace('T', ' ')} UTC" if results.created else ""),
        ("Made with", f"reticent {program}; who ran it is not recorded" if program else ""),
    ]
    return [(name, what) for name, what in rows if what]


def _model(results: Results) -> str:
    base, training = base_name(results), _mapping(_mapping(results.provenance.get("training")).get("training"))
    method = str(training.get("method", ""))
    named = model_name(results)
    tuned = f"fine-tuned ({method}) from {base}" if method and base else f"compared with {base}" if base else ""
    return f"{named}, {tuned}" if tuned and named != base else named


def _data(results: Results) -> str:
    title = str(_mapping(results.provenance.get("training")).get("title") or "")
    mark = str(_mapping(results.provenance.get("data")).get("fingerprint") or "")
    return ", ".join(part for part in (title, f"fingerprint {mark[:12]}" if mark else "") if part)


def _sides(results: Results, members: str, held_out: str, everyone: str) -> str:
    """How many were in and how many were out, as far as the results count them."""
    counts = results.counts
    inside, outside, every = counts.get(members), counts.get(held_out), counts.get(everyone)
    counted = [f"{every:,}"] if every is not None else []
    counted += [f"{inside:,} trained on"] if inside is not None else []
    counted += [f"{outside:,} held out and looked at"] if outside is not None else []
    return f"{counted[0]}: {' and '.join(counted[1:])}" if every is not None and counted[1:] else ", ".join(counted)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
