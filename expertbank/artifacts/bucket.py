"""A bucket by its URL, and how often its server is asked again."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from expertbank.artifacts.refusals import REFUSED, reason
from expertbank.errors import ExpertBankError, InputError

if TYPE_CHECKING:
    from obstore.store import S3Store

EXTRA = "a store in S3 needs obstore; run: pip install 'expertbank[s3]'"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]*(/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*")
_OPTIONS = ("endpoint", "region")
RETRY: dict[str, Any] = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}
"""Requests are tried again after 5xx, time-outs and lost connections; for a minute at most."""


def opened(bucket: str, options: dict[str, str], retry: dict[str, Any]) -> S3Store:
    """Obstore's own store; nothing is asked of the server yet.

    Raises:
        ExpertBankError: obstore is not installed, or refuses what it finds in the environment.
    """
    try:
        from obstore.store import S3Store
    except ImportError:
        raise ExpertBankError(EXTRA) from None
    asked: dict[str, Any] = {"retry_config": retry}
    if "region" in options:
        asked["region"] = options["region"]
    if "endpoint" in options:
        asked["endpoint"] = options["endpoint"]
        asked["virtual_hosted_style_request"] = False
        if options["endpoint"].startswith("http://"):
            asked["client_options"] = {"allow_http": True}
    try:
        return S3Store(bucket, **asked)
    except REFUSED() as error:
        raise ExpertBankError(f"cannot open s3://{bucket}: {reason(error)}") from None


def parts_of(url: str) -> tuple[str, str, dict[str, str]]:
    """Bucket, prefix and options of ``s3://bucket/prefix?endpoint=...``.

    Raises:
        InputError: a URL of another form.
    """
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    odd = sorted(options.keys() - set(_OPTIONS))
    bad_prefix = prefix and _PREFIX.fullmatch(prefix) is None
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or odd or bad_prefix:
        raise InputError(
            "a store in S3 has the form s3://bucket/prefix, with ?endpoint=https://host and "
            f"&region=name where it is not Amazon's; got {url!r}"
        )
    return parts.netloc, prefix, options
