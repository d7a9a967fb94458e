"""A PostgreSQL server of the tests' own: a cluster in a new folder, gone when they end.

PostgreSQL refuses to run as root; then an ordinary user runs it.
"""

from __future__ import annotations

import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expertbank.registry.postgres.database import PostgresDatabase

USERS = ("postgres", "nobody")
PLACES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql")
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 200
shared_buffers = 64MB
fsync = {sync}
full_page_writes = {sync}
log_min_messages = panic
"""
_EMPTY = """DO $$
DECLARE one record;
BEGIN
  FOR one IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
      AND relkind = 'r' AND relname NOT IN ('banks', 'alembic_version') LOOP
    EXECUTE format('DELETE FROM %I', one.relname);
  END LOOP;
  FOR one IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
      AND relkind = 'S' LOOP
    PERFORM setval(one.relname::regclass, 1, false);
  END LOOP;
END $$"""
LOGINS = """
local all all trust
host all locked 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


def binary(name: str) -> str | None:
    """Where a program of PostgreSQL is, on the path or where Debian puts it."""
    found = shutil.which(name)
    if found:
        return found
    there = sorted(path for place in PLACES for path in Path(place).glob(f"**/bin/{name}"))
    return str(there[-1]) if there else None


def lacking() -> str:
    """Why no server can be started here; empty when one can."""
    missing = [name for name in ("initdb", "postgres") if binary(name) is None]
    if missing:
        return f"{' and '.join(missing)} not found: on Debian, apt-get install postgresql"
    if os.name != "posix":
        return "a server is started on POSIX systems only"
    return ""


class PostgresServer:
    """One cluster; ``start`` it first. It waits for no disk unless it is ``durable``."""

    def __init__(self, *, durable: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.port = free_port()
        self.owner = _ordinary_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._spare: list[str] = []
        if self.owner is not None:
            os.chown(self.folder, self.owner.pw_uid, self.owner.pw_gid)
        self._run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "tester",
            "-E",
            "UTF8",
            "--no-sync",
            "-A",
            "trust",
            "--locale-provider=icu",
            "--icu-locale=en-US",
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                SETTINGS.format(port=self.port, folder=self.folder, sync="on" if durable else "off")
            )
        (self.data / "pg_hba.conf").write_text(LOGINS)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        self._process = self._run_server()
        self.wait()

    def wait(self) -> None:
        """Until it answers; run again if it has ended by itself."""
        import psycopg

        patience = time.monotonic() + 60
        while True:
            if self._process is not None and self._process.poll() is not None:
                # It gives up where somebody holds its port, which a moment later is free.
                self._process = self._run_server()
            try:
                psycopg.connect(self.dsn("postgres"), autocommit=True, connect_timeout=5).close()
            except psycopg.OperationalError:
                assert time.monotonic() < patience, "the server does not start"
                time.sleep(0.02)
            else:
                return

    def _run_server(self) -> subprocess.Popen[bytes]:
        program = binary("postgres")
        assert program is not None
        return subprocess.Popen(
            [program, "-D", str(self.data)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            start_new_session=True,
            **self._as_owner(),
        )

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """``SIGINT`` ends connections, ``SIGQUIT`` ends the server without a checkpoint.

        A server that a busy disk keeps from ending is gone in seconds all the same: clients wait
        no longer for it.
        """
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=60)
        self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, database: str) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/{database}"

    def url(self, database: str, *, port: int | None = None) -> str:
        return f"postgresql+psycopg://tester@127.0.0.1:{port or self.port}/{database}"

    def execute(self, database: str, *statements: str) -> list[tuple[object, ...]]:
        """Run statements as a superuser would; the last one's rows."""
        import psycopg

        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def make(self, template: str = "template1") -> str:
        """A new database, a copy of ``template``; its name."""
        name = f"bank{next(self._numbers)}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def borrow(self, template: str) -> str:
        """As ``make``, but one that was given back will do: emptying one is faster."""
        return self._spare.pop() if self._spare else self.make(template)

    def give_back(self, database: str) -> None:
        """Empty a borrowed database, whoever is still connected, for the next to borrow it."""
        self.execute(
            "postgres",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
        )
        self.execute(database, "SET session_replication_role = replica; " + _EMPTY)
        self._spare.append(database)

    def drop(self, database: str) -> None:
        self.execute("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def _run(self, name: str, *arguments: str) -> None:
        program = binary(name)
        assert program is not None
        subprocess.run(
            [program, *arguments],
            check=True,
            cwd=self.folder,
            capture_output=True,
            **self._as_owner(),
        )

    def _as_owner(self) -> dict[str, object]:
        if self.owner is None:
            return {}
        return {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []}


def _ordinary_user() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError(f"none of the users {', '.join(USERS)} is there to run PostgreSQL")


def free_port() -> int:
    """A port that stays free: of those from 32768 on a caller may be given one to call from.

    That may be the port of a server that restarts, which then finds it taken.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("none of a hundred ports is free")


@contextmanager
def running(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A started server, removed at the end; ``durable`` where times are taken."""
    server = PostgresServer(durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextmanager
def places(
    server: PostgresServer, template: str | None = None
) -> Iterator[Callable[[], PostgresDatabase]]:
    """A function that gives another database at every call.

    Without ``template`` there is nothing in it; with it the registry of ``template``, which must
    not be changed but in its rows.
    """
    from expertbank.registry.postgres.database import PostgresDatabase

    made: list[str] = []

    def place() -> PostgresDatabase:
        made.append(server.make() if template is None else server.borrow(template))
        return PostgresDatabase.at(server.url(made[-1]))

    try:
        yield place
    finally:
        for name in made:
            (server.drop if template is None else server.give_back)(name)
