"""Where a bank's database is: a URL, and how it may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from expertbank.errors import ExpertBankError, InputError

SCHEMES = ("postgresql+psycopg", "postgresql", "postgres")
"""How such URLs begin; all mean the same driver."""
EXTRA = "a bank in PostgreSQL needs psycopg; run: pip install 'expertbank[postgres]'"
_SECRET = re.compile(r"passw|secret|token|key", re.IGNORECASE)
_HIDDEN = "***"
_TOO_SHORT = 3
"""Letters of a secret that would be found in every sentence; drivers repeat none by themselves."""


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A database's URL; what is printed of it never holds a password.

    Attributes:
        url: all of it, for the driver. Sent to other processes, it takes a password along.
    """

    url: str

    @classmethod
    def of(cls, text: str) -> Address:
        """The address that a user gave.

        Raises:
            InputError: no URL of a PostgreSQL database, or one in which a password may reach
                further than it seems to; what it is, is not repeated.
        """
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            url = None
        if url is None or url.drivername not in SCHEMES or not url.database:
            raise InputError(
                "a bank's URL has the form postgresql+psycopg://user@host/database; the password "
                "is best left to PGPASSWORD or ~/.pgpass"
            )
        if _is_torn(url, text):
            raise InputError(
                "an @ stands where the database's URL can have none; special characters of a "
                "password must be percent-encoded (@ is %40, / is %2F), or leave the password to "
                "PGPASSWORD or ~/.pgpass"
            )
        plain = url.set(drivername=SCHEMES[0]).render_as_string(hide_password=False)
        return cls(plain)

    @property
    def sqlalchemy(self) -> URL:
        """As SQLAlchemy takes it.

        Raises:
            ExpertBankError: psycopg is not installed.
        """
        if find_spec("psycopg") is None:
            raise ExpertBankError(EXTRA)
        return make_url(self.url)

    def __str__(self) -> str:
        """The URL without secrets."""
        url = make_url(self.url)
        shown = {name: value for name, value in url.query.items() if not _SECRET.search(name)}
        return url._replace(password=None).set(query=shown).render_as_string()

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def masked(self, text: object) -> str:
        """``text``, such as a driver's message, in one line and without this URL's secrets."""
        url = make_url(self.url)
        secrets = [str(url.password or "")]
        secrets += [str(value) for name, value in url.query.items() if _SECRET.search(name)]
        shown = " ".join(str(text).split())
        for secret in secrets:
            if len(secret) > _TOO_SHORT:
                shown = shown.replace(secret, _HIDDEN)
        return shown


def _is_torn(url: URL, text: str) -> bool:
    """Whether part of a password may have been taken for what follows it, and be shown."""
    behind = text.partition("@")[2].partition("?")[2] if url.password else ""
    return "@" in f"{url.host}{url.database}{behind}"
