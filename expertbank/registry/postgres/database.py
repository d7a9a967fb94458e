"""The registry's PostgreSQL database as a place: making, opening, upgrading it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.pool import NullPool

from expertbank.errors import ExpertBankError
from expertbank.registry import schema
from expertbank.registry.location import Upgrade
from expertbank.registry.postgres.address import Address
from expertbank.registry.postgres.connection import engine_at, reached
from expertbank.registry.postgres.failures import persist
from expertbank.registry.postgres.registry import PostgresRegistry
from expertbank.registry.session import READS

T = TypeVar("T")

_NO_POOL: dict[str, Any] = {"poolclass": NullPool, "pool_pre_ping": False}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself: version, the schema that is used, whether it only reads."""

    version: str
    schema: str | None
    read_only: bool


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A ``RegistryLocation`` that is one schema of a database: the first of its search path."""

    address: Address

    @classmethod
    def at(cls, url: str) -> PostgresDatabase:
        """The database that a user named.

        Raises:
            InputError: no URL of a PostgreSQL database.
        """
        return cls(Address.of(url))

    def describe(self) -> str:
        """The URL, without secrets."""
        return str(self.address)

    def exists(self) -> bool:
        """Whether the schema holds a registry."""
        return self.revision() is not None

    def open(self, *, read_only: bool = False) -> PostgresRegistry:
        """Open the registry; see ``RegistryLocation``."""
        schema.require_head(self.revision(), self.address)
        return PostgresRegistry(self.address, engine_at(self.address), read_only=read_only)

    def create(self) -> PostgresRegistry:
        """Open the registry, making it first if there is none; see ``RegistryLocation``."""

        def make() -> None:
            engine = engine_at(self.address, limited=False, **_NO_POOL)
            with engine.begin() as connection:
                # Asked under the write lock: another process may have been faster.
                if schema.revision_of(connection, self.address) is None:
                    _require_unicode(connection, self.address)
                    schema.migrate(connection)

        if self.revision() is None:
            persist(make, lambda: True)
        return self.open()

    def revision(self) -> str | None:
        """Revision of the registry; ``None`` where the schema is empty.

        Raises:
            NotFoundError: there is no such database or schema.
            IntegrityError: tables of another program are there.
            ExpertBankError: the server cannot be reached, or refuses the login.
        """
        return self._reading(lambda connection: schema.revision_of(connection, self.address))

    def upgrade(self, *, backup: bool = True) -> Upgrade:
        """Bring the registry to this program's revision in one transaction.

        Args:
            backup: ignored: a server is backed up by its own tools, before.

        Raises:
            NotFoundError: there is no registry.
            SchemaTooNewError: a newer expertbank wrote it; nothing was written.
        """
        before = schema.require_known(self.revision(), self.address)
        if before == schema.HEAD:
            return Upgrade(before, before, None)
        engine = engine_at(self.address, limited=False, **_NO_POOL)
        with engine.begin() as connection:
            now = schema.revision_of(connection, self.address)
            before = schema.require_known(now, self.address)
            if before != schema.HEAD:
                schema.migrate(connection)
        return Upgrade(before, schema.HEAD, None)

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Numbers of rows.

        Args:
            tables: names of tables, from this program and never from a user.
        """
        return self._reading(
            lambda connection: {
                table: int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608
                for table in tables
            }
        )

    def facts(self) -> Facts:
        """The server.

        Raises:
            ExpertBankError: it cannot be reached, or refuses the login.
        """

        def ask(connection: Connection) -> Facts:
            query = text(
                "SELECT current_setting('server_version'), current_schema(), "
                "pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'"
            )
            return Facts(*connection.execute(query).one())

        return self._reading(ask)

    def _reading(self, question: Callable[[Connection], T]) -> T:
        engine = _reader(self.address)

        def ask() -> T:
            with engine.connect() as connection, connection.begin():
                return question(connection)

        return persist(ask, lambda: reached(self.address))


@lru_cache(maxsize=8)
def _reader(address: Address) -> Engine:
    """What asks one question; kept, since a new engine asks the server about itself first."""
    return engine_at(address, **_NO_POOL).execution_options(**{READS: True})


def _require_unicode(connection: Connection, where: Address) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise ExpertBankError(
            f"{where} is made for {encoding}; a bank needs UTF8: createdb --encoding=UTF8 "
            "--template=template0"
        )
