# SPDX-License-Identifier: Apache-2.0
"""Paper: where something was published, as one checked id from which its link is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

_FORMS = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,9}/\S+|https://[A-Za-z0-9][^\s\"'<>\\^`{|}]*")
_PLACES = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}


@dataclass(frozen=True)
class Paper:
    """A paper by its id.

    Use it wherever an id becomes a link: what is no id of a known form is refused, so that no text from elsewhere can
    become an address.

    Args:
        id: ``arXiv:NUMBER``, ``doi:10.PREFIX/SUFFIX`` or ``https://…``.

    Raises:
        ValueError: the id has another form.

    Examples:
        >>> Paper("arXiv:2310.16789").url
        'https://arxiv.org/abs/2310.16789'
        >>> Paper("doi:10.1111/j.1469-1809.1936.tb02137.x").url
        'https://doi.org/10.1111/j.1469-1809.1936.tb02137.x'
        >>> Paper("javascript:alert(1)")
        Traceback (most recent call last):
            ...
        ValueError: paper 'javascript:alert(1)' is not arXiv:NUMBER, doi:10.PREFIX/SUFFIX or https://…
    """

    id: str

    def __post_init__(self) -> None:
        if not _FORMS.fullmatch(self.id):
            raise ValueError(f"paper {self.id!r} is not arXiv:NUMBER, doi:10.PREFIX/SUFFIX or https://…")

    def __str__(self) -> str:
        return self.id

    @property
    def url(self) -> str:
        """Address of the paper."""
        kind, _, number = self.id.partition(":")
        return _PLACES[kind] + quote(number, safe="/:;().,-_") if kind in _PLACES else self.id


def paper_url(text: str) -> str:
    """Address of a paper, empty where the text is no id of one.

    >>> paper_url("arXiv:2310.16789"), paper_url("our own")
    ('https://arxiv.org/abs/2310.16789', '')
    """
    return Paper(text).url if _FORMS.fullmatch(text) else ""
