"""Stores by the scheme of their URL: ``file`` and ``s3`` are our own, others plugins."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from expertbank.artifacts.store import ArtifactStore
from expertbank.errors import InputError
from expertbank.plugins import Plugins

StoreFactory = Callable[[str], ArtifactStore]
"""Opens the store at a URL; makes nothing there before the first ``put``."""

METHODS = (
    *("where", "put", "chunks", "get", "digests", "state", "delete"),
    *("unfinished", "discard", "probe"),
)
"""What a store must have, beside its ``location``."""
OPTIONAL = ("claim", "owner", "distant")
"""What it may have: without ``claim`` two banks can take it, without ``owner`` a bank is made and
then refused it, unless it is ``distant`` no copies of what it holds are kept."""


def _complaint(name: str, plugin: object) -> str | None:
    if not callable(plugin):
        return "is no function from a URL to a store, nor a class of stores"
    missing = [m for m in METHODS if not hasattr(plugin, m)] if isinstance(plugin, type) else []
    return f"lacks {', '.join(missing)}" if missing else None


STORES: Plugins[StoreFactory] = Plugins(
    "store",
    "expertbank.stores",
    own={
        "file": "expertbank.artifacts.local:open_folder",
        "s3": "expertbank.artifacts.objects:ObjectStore",
    },
    complaint=_complaint,
)
"""What opens stores, by the scheme of their URLs."""

_SECRET = re.compile(r"key|secret|token|passw|pwd|sig$|signature|credential|auth", re.IGNORECASE)
_LOGIN = re.compile(r"//[^/?#\s]*@")


def open_store(url: str) -> ArtifactStore:
    """The store at ``url``.

    Raises:
        InputError: no URL, one with a secret in it, or a plugin that gives no store.
        NotFoundError: nothing here opens URLs of this scheme.
    """
    factory = STORES.get(check_url(url))
    store: Any = factory(url)
    missing = [name for name in ("location", *METHODS) if not hasattr(store, name)]
    if missing:
        raise InputError(f"what opens {url} is no store: it lacks {', '.join(missing)}")
    return store  # type: ignore[no-any-return]  # its methods were looked for just now


def check_url(url: str) -> str:
    """The scheme of a store's URL, which is recorded in the bank and shown: no place for secrets.

    Raises:
        InputError: no URL, or a login or key in it; what it is, is not repeated.
    """
    try:
        parts = urlsplit(url)
        asked = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError as error:
        raise InputError(f"the store's URL cannot be read: {error}") from None
    secret = _LOGIN.search(unquote(url)) or any(
        _SECRET.search(name) or _LOGIN.search(unquote(value)) for name, value in asked
    )
    if secret or parts.fragment:
        raise InputError(
            "the store's URL holds a login, key or fragment; it is recorded in the bank, so give "
            "credentials in the environment, as the store's own tools read them"
        )
    if not parts.scheme:
        raise InputError(f"a store is named by a URL such as file:///data/objects, got {url!r}")
    return parts.scheme
