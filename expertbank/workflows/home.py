"""Where a bank is: a folder, or a database that several machines share.

What a bank keeps besides its registry and its artifacts is of this machine alone: unfinished
training, caches. A folder has it inside; of a bank in a database it lies in this machine's cache
folder, under the bank's own name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from expertbank.artifacts.local import LocalStore
from expertbank.artifacts.lock import LOCK_FILE, BankLock
from expertbank.artifacts.store import ArtifactStore
from expertbank.artifacts.stores import open_store
from expertbank.errors import ExpertBankError, InputError
from expertbank.files.durable import make_folder
from expertbank.files.paths import given_path
from expertbank.registry.location import UpgradableLocation
from expertbank.registry.sqlite.file import SqliteFile

if TYPE_CHECKING:
    from expertbank.registry.postgres.database import PostgresDatabase

DATABASE = "registry.db"
OBJECTS = "objects"
RESTORE_INSTEAD = "pg_restore, or expertbank db copy"
"""What to use instead of ``db restore`` for a bank in a database."""
_UNNAMED = "unnamed"
_DATABASE = re.compile(r"\s*postgres(ql)?(\+\w*)?:", re.IGNORECASE)


class Lock(Protocol):
    """The bank's lock: writers share it, what deletes or replaces files holds it alone."""

    wait: float

    def shared(self) -> AbstractContextManager[None]:
        """Hold it together with other writers."""
        ...

    def exclusive(self) -> AbstractContextManager[Callable[[], None]]:
        """Hold it alone; what is given refuses to go on where it was lost meanwhile."""
        ...

    def state(self) -> str:
        """``free``, ``shared`` or ``exclusive``; never waits."""
        ...


@runtime_checkable
class Home(Protocol):
    """Where a bank is; as text, what people are shown."""

    @property
    def folder(self) -> Path | None:
        """The folder that has everything in it; ``None`` where a bank is not in one."""
        return None

    @property
    def location(self) -> UpgradableLocation:
        """Its registry."""
        ...

    @property
    def making(self) -> str:
        """What makes a bank there, in words."""
        ...

    def lock(self, wait: float) -> Lock:
        """Its lock, that is waited for so many seconds."""
        ...

    def prepare(self) -> None:
        """Make what must be there before a bank can be made."""

    def scratch(self, bank: str | None) -> Path:
        """This machine's own folder of the bank with this name; ``None`` before it has one."""
        ...

    def store(self, url: str | None) -> ArtifactStore:
        """The store that the registry names.

        Raises:
            InputError: none is named, and there is none without.
        """
        ...

    def store_words(self, url: str | None) -> str:
        """The same for people."""
        ...


@dataclass(frozen=True, slots=True)
class FolderHome:
    """A folder with everything in it."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def location(self) -> SqliteFile:
        """The SQLite file in it."""
        return SqliteFile(self.folder / DATABASE)

    @property
    def making(self) -> str:
        """Two commands: adding the first task makes one too."""
        return "expertbank init, or expertbank add --task T"

    def lock(self, wait: float) -> BankLock:
        """A file in it."""
        return BankLock(self.folder / LOCK_FILE, wait)

    def prepare(self) -> None:
        """Make the folder."""
        make_folder(self.folder.absolute())

    def scratch(self, bank: str | None) -> Path:
        """The folder."""
        return self.folder

    def store(self, url: str | None) -> ArtifactStore:
        """The store at ``url``; without one the files in the folder."""
        return LocalStore(self.folder / OBJECTS) if url is None else open_store(url)

    def store_words(self, url: str | None) -> str:
        """The URL, or the folder of the files."""
        return url or str(self.folder / OBJECTS)


@dataclass(frozen=True, slots=True)
class DatabaseHome:
    """A PostgreSQL database, and a folder of this machine for what is its own.

    Args:
        location: the database.
        cache: the folder for all such banks.
    """

    location: PostgresDatabase
    cache: Path

    def __str__(self) -> str:
        return self.location.describe()

    @property
    def folder(self) -> None:
        """None: it is a database."""
        return None

    @property
    def making(self) -> str:
        """A command that names a store, as a database holds no files."""
        return "expertbank init --store URL"

    def lock(self, wait: float) -> Lock:
        """An advisory lock in the database."""
        from expertbank.registry.postgres.lock import DatabaseLock

        return DatabaseLock(self.location.address, wait)

    def prepare(self) -> None:
        """Nothing: a database is made by its administrator."""

    def scratch(self, bank: str | None) -> Path:
        """A folder under the bank's name, made where that is possible."""
        folder = self.cache.absolute() / (bank or _UNNAMED)
        with suppress(ExpertBankError, OSError):
            make_folder(folder)
        return folder

    def store(self, url: str | None) -> ArtifactStore:
        """The store at ``url``."""
        if url is None:
            raise InputError(
                f"the bank at {self} needs a store for its files, as a database holds none: name "
                "one with --store s3://bucket/prefix, or file:///a/folder/that/all/machines/see"
            )
        return open_store(url)

    def store_words(self, url: str | None) -> str:
        """The URL."""
        return url or "no store yet"


def home_at(place: str | os.PathLike[str] | Home, cache: Path | None = None) -> Home:
    """The home that a user named by a folder or by the URL of a database.

    Args:
        place: the folder or URL.
        cache: folder of this machine for banks in databases; default the platform's.

    Raises:
        InputError: an empty name, or a URL of no PostgreSQL database.
    """
    if isinstance(place, Home):
        return place
    if isinstance(place, str) and is_url(place):
        from expertbank.registry.postgres.database import PostgresDatabase

        return DatabaseHome(PostgresDatabase.at(place), cache or default_cache())
    return FolderHome(given_path(place, "the bank's folder"))


def is_url(place: str) -> bool:
    """Whether a home is a URL: one that is no database's is refused by its name, not made.

    A database's with slashes missing is one too: as a folder's name it would show a password.
    """
    return "://" in place or _DATABASE.match(place) is not None


def default_cache() -> Path:
    """The platform's folder for what can be made or fetched again."""
    from platformdirs import user_cache_path

    return Path(user_cache_path("expertbank"))


def folder_of(home: Home, doing: str, instead: str) -> Path:
    """The folder of a bank that is one.

    Raises:
        InputError: it is in a database; it says what to use instead of ``doing``.
    """
    if home.folder is not None:
        return home.folder
    raise InputError(f"{doing} is for a bank in a folder; {home} is a database: use {instead}")
