# SPDX-License-Identifier: Apache-2.0
"""Keys and tokens that carry their issuer's mark."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector

FORMATS = {
    "AWS access key": r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA)[A-Z2-7]{16}",
    "Google API key": r"AIza[\w-]{35}",
    "Google OAuth token": r"ya29\.[\w-]{20,}+",
    "Google client secret": r"GOCSPX-[\w-]{28}",
    "GitHub token": r"gh[pousr]_[A-Za-z0-9]{36,}+",
    "GitHub fine-grained token": r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    "GitLab token": r"gl(?:pat|dt|rt|ptt|oas)-[\w-]{20,}+",
    "Slack token": r"xox[abeoprs]-[\w-]{10,}+",
    "Slack app token": r"xapp-\d-[\w-]{20,}+",
    "Slack webhook": r"https://hooks\.slack\.com/(?:services|workflows)/[\w/]{20,}+",
    "Discord webhook": r"https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/\d{10,}+/[\w-]{30,}+",
    "Stripe key": r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}+",
    "OpenAI key": r"sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}+",
    "Hugging Face token": r"(?:hf|api_org)_[A-Za-z0-9]{30,}+",
    "npm token": r"npm_[A-Za-z0-9]{36}",
    "PyPI token": r"pypi-AgEI[\w-]{50,}+",
    "SendGrid key": r"SG\.[\w-]{22}\.[\w-]{43}",
    "Twilio key": r"(?:AC|SK)[0-9a-f]{32}",
    "Mailgun key": r"key-[0-9a-f]{32}",
    "Mailchimp key": r"[0-9a-f]{32}-us\d{1,2}",
    "DigitalOcean token": r"do[opr]_v1_[0-9a-f]{64}",
    "Telegram bot token": r"\d{8,10}:AA[\w-]{33}",
    "Square token": r"sq0(?:atp|csp|idp)-[\w-]{22,}+",
    "Shopify token": r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    "Databricks token": r"dapi[0-9a-f]{32}(?:-\d)?",
    "Vault token": r"hv[sbr]\.[\w-]{24,}+",
    "Age key": r"AGE-SECRET-KEY-1[02-9A-Z]{58}",
    "Azure key": r"[A-Za-z0-9_~.]{3}\dQ~[\w~.-]{31,34}",
    "JSON web token": r"eyJ[\w-]{10,}+\.eyJ[\w-]{10,}+\.[\w-]*+",
}
"""Name of a format → what it looks like. Each begins with a mark of fixed length, or stands between boundaries, so
that no text is read twice."""

_ANY = re.compile(rf"(?<![\w.-])(?:{'|'.join(FORMATS.values())})(?![\w])", re.ASCII)


@detector(
    "api_key",
    kinds=("API_KEY",),
    evidence=SpanEvidence.CHECKED,
    reads="even",
    example=("key AKIAIOSFODNN7EXAMPLQ", "AKIAIOSFODNN7EXAMPLQ"),
)
def api_key(text: str) -> Iterator[Span]:
    """Keys of cloud, payment, mail and code-hosting services, and JSON web tokens."""
    for match in _ANY.finditer(text):
        yield Span(start=match.start(), end=match.end(), kind="API_KEY")
