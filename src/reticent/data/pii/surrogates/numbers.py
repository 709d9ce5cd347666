# SPDX-License-Identifier: Apache-2.0
"""Numbers of people, documents and machines from ranges that are not given out, or in the shape of the original."""

from __future__ import annotations

import re

from reticent.data.pii.surrogate import Draw, digits_in, same_shape, surrogate

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)
_TOKEN = re.compile(r"[0-9]+|[^\W\d_]+")


@surrogate("US_SSN")
def us_ssn(original: str, draw: Draw) -> str:
    """Area 9xx and a group below 50: neither a social security nor a tax number."""
    return digits_in(original, f"9{draw.digits(2)}{1 + draw.below(49):02d}{draw.digits(4)}")


@surrogate("IP_ADDRESS")
def ip_address(original: str, draw: Draw) -> str:
    """From the blocks for documentation, RFC 5737 and RFC 3849."""
    if ":" in original:
        return f"2001:db8:{draw.below(65536):x}:{draw.below(65536):x}::{1 + draw.below(65535):x}"
    return f"{draw.choice(('192.0.2', '198.51.100', '203.0.113'))}.{1 + draw.below(254)}"


@surrogate("MAC_ADDRESS")
def mac_address(original: str, draw: Draw) -> str:
    """From the block for documentation, RFC 9542."""
    digits = iter(f"00005E0053{draw.below(256):02X}")
    return "".join(next(digits, "0") if char.isalnum() else char for char in original)


@surrogate("URL_CREDENTIALS")
def url_credentials(original: str, draw: Draw) -> str:
    """The same scheme, with a made-up user and password at a domain for examples."""
    scheme = _SCHEME.match(original)
    return f"{scheme[0] if scheme else 'https://'}user{draw.digits(3)}:{draw.digits(8)}@example.com/"


@surrogate("DATE_OF_BIRTH")
def date_of_birth(original: str, draw: Draw) -> str:
    """Another date in the same layout. Days and months are at most 12, so it can be read in either order."""
    return _TOKEN.sub(lambda match: _part(match[0], draw), original)


@surrogate("PRIVATE_KEY")
def private_key(original: str, draw: Draw) -> str:
    """Nothing but what it was."""
    return "[PRIVATE_KEY]"


@surrogate("CRYPTO_WALLET", "PASSWORD", "API_KEY", "ACCESS_CODE", canonical=str)
def secret(original: str, draw: Draw) -> str:
    """Digit for digit and letter for letter, in the same case."""
    return same_shape(original, draw)


def _part(part: str, draw: Draw) -> str:
    if part.isdigit():
        if len(part) == 8:
            return f"{1940 + draw.below(65)}{1 + draw.below(12):02d}{1 + draw.below(12):02d}"
        if len(part) == 4:
            return str(1940 + draw.below(65))
        return str(1 + draw.below(12)).zfill(len(part))
    if part.lower() in ("st", "nd", "rd", "th", "of"):
        return part if part.lower() == "of" else "th"
    name = draw.choice(_MONTHS)
    name = name if len(part) > 4 else name[:3]
    return name.lower() if part.islower() else name
