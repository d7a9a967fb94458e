"""What cannot be opened or written is told in one line, with the right exit code, and no secret."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from postgres_server import PostgresServer, free_port, places
from sqlalchemy import text

from expertbank.errors import (
    ExpertBankError,
    InputError,
    IntegrityError,
    LockedError,
    NotFoundError,
)
from expertbank.registry.postgres import connection as connections
from expertbank.registry.postgres.address import Address
from expertbank.registry.postgres.database import PostgresDatabase
from expertbank.registry.postgres.failures import (
    ConflictError,
    LostError,
    NeverReachedError,
    explained,
)
from expertbank.registry.postgres.lock import DatabaseLock
from expertbank.registry.postgres.registry import PostgresRegistry
from expertbank.testing.bank_rows import BACKBONE, expert_parts, fill, known
from expertbank.workflows.home import DatabaseHome, FolderHome, home_at

SECRET = "s3cr3t-word"


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.make()
    yield name
    postgres.drop(name)


@pytest.fixture
def place(postgres: PostgresServer, fresh_postgres: str) -> Iterator[PostgresDatabase]:
    with places(postgres, fresh_postgres) as make:
        yield make()


@pytest.fixture
def full(place: PostgresDatabase) -> Iterator[PostgresRegistry]:
    with place.open() as registry:
        fill(registry)
        yield registry


def name_of(place: PostgresDatabase) -> str:
    return str(place.address).rpartition("/")[2]


# -- the URL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{SECRET}@host/bank",
        f"postgresql://host/bank?password={SECRET}&user=me",
        f"postgres://host/bank?sslpassword={SECRET}",
    ],
)
def test_a_password_in_the_url_is_never_shown(url: str) -> None:
    place = PostgresDatabase.at(url)
    shown = (place.describe(), repr(place), str(place.address), place.address.masked(f"no {url}"))
    assert SECRET not in " ".join(shown)
    assert "host/bank" in place.describe()
    assert SECRET in pickle.loads(pickle.dumps(place)).address.url


@pytest.mark.parametrize(
    "url",
    [f"mysql://me:{SECRET}@h/db", f"postgresql://me:{SECRET}@host", f"postgresql://{SECRET}:x"],
)
def test_a_url_that_names_no_database_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match=r"postgresql\+psycopg://user@host/database") as caught:
        PostgresDatabase.at(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://u:hunter@2{SECRET}@h/db",
        f"postgresql://u:hunter@h/{SECRET}@h/db",
        f"postgresql://u:hunter@h/x?{SECRET}@h/db",
        f"postgresql://u:hunter@h/x?y={SECRET}@h/db",
        f"postgresql://u/x:{SECRET}@h/db",
        f"postgresql+psycopg:/u:{SECRET}@h/b",
        f"postgresql:u:{SECRET}@h/b",
        f"postgres:///u:{SECRET}@h/b",
        f"Postgres+psycopg2:/u:{SECRET}@h/b",
    ],
)
def test_a_url_that_would_show_part_of_its_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match=r"percent-encoded|postgresql\+psycopg://") as caught:
        home_at(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("password", ["hun/ter", "hun?ter", "hunter%402", "hun#ter", "hun ter"])
def test_a_password_whose_end_is_plain_is_taken_whole(password: str) -> None:
    place = PostgresDatabase.at(f"postgresql://u:{password}@h/db")
    assert place.address.sqlalchemy.password == password.replace("%40", "@")
    assert place.describe() == "postgresql+psycopg://u@h/db"


def test_folders_are_told_from_urls() -> None:
    for place in ("postgresql+psycopg://h/b", "postgres:///b", "postgresql://h/b"):
        assert isinstance(home_at(place), DatabaseHome)
    for place in ("bank", "postgres", "./postgresql:x", "/a//b"):
        assert isinstance(home_at(place), FolderHome)
    for place in ("mysql://h/b", "s3://bucket/x", "https://h/b"):
        with pytest.raises(InputError):
            home_at(place)


# -- what cannot be opened -------------------------------------------------------------------------


def refused(place: PostgresDatabase) -> ExpertBankError:
    """The same error of every way in."""
    found = set()
    for use in (PostgresDatabase.open, PostgresDatabase.create, PostgresDatabase.exists):
        with pytest.raises(ExpertBankError) as caught:
            use(place)
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)
        found.add((type(caught.value), str(caught.value)))
    assert len(found) == 1, found
    return caught.value


def test_no_server_is_said_at_once() -> None:
    start = time.monotonic()
    error = refused(PostgresDatabase.at(f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/bank"))
    assert "cannot be reached" in str(error)
    assert error.exit_code == 1
    assert time.monotonic() - start < 5


def test_a_wrong_password_is_said_to_be_one(postgres: PostgresServer, database: str) -> None:
    postgres.execute(
        database, "DROP ROLE IF EXISTS locked", "CREATE ROLE locked LOGIN PASSWORD 'right'"
    )
    url = f"postgresql://locked:{SECRET}@127.0.0.1:{postgres.port}/{database}"
    error = refused(PostgresDatabase.at(url))
    assert "refused the login" in str(error)
    assert "PGPASSWORD" in str(error)


def test_a_user_that_the_server_does_not_know_is_refused_the_login(
    postgres: PostgresServer, database: str
) -> None:
    url = f"postgresql://nobody_here@127.0.0.1:{postgres.port}/{database}"
    error = refused(PostgresDatabase.at(url))
    assert "refused the login" in str(error)
    assert "check user" in str(error)


def test_a_database_that_is_not_there_is_not_found(postgres: PostgresServer) -> None:
    error = refused(PostgresDatabase.at(postgres.url("nowhere")))
    assert isinstance(error, NotFoundError)
    assert "createdb" in str(error)


def test_a_schema_that_is_not_there_is_not_found(postgres: PostgresServer, database: str) -> None:
    url = postgres.url(database) + "?options=-csearch_path%3Dnowhere"
    assert not PostgresDatabase.at(url).exists()
    with pytest.raises(NotFoundError, match="schema"):
        PostgresDatabase.at(url).create()


def test_two_banks_live_in_two_schemas_of_one_database(
    postgres: PostgresServer, database: str
) -> None:
    postgres.execute(database, "CREATE SCHEMA one", "CREATE SCHEMA two")
    one, two = (
        PostgresDatabase.at(postgres.url(database) + f"?options=-csearch_path%3D{name}")
        for name in ("one", "two")
    )
    with one.create() as first, two.create() as second:
        assert first.bank_id() != second.bank_id()
        fill(first)
        assert second.backbone() is None
        assert first.check() == second.check() == ()
    assert not PostgresDatabase.at(postgres.url(database)).exists()


def test_tables_of_another_program_are_refused_and_left_alone(
    postgres: PostgresServer, database: str
) -> None:
    postgres.execute(database, "CREATE TABLE bookmarks (id int)")
    error = refused(PostgresDatabase.at(postgres.url(database)))
    assert isinstance(error, IntegrityError)
    assert "another program" in str(error)
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert postgres.execute(database, tables) == [("bookmarks",)]


def test_a_user_who_may_not_write_reads_and_is_told_so(
    postgres: PostgresServer, full: PostgresRegistry, place: PostgresDatabase
) -> None:
    name = name_of(place)
    postgres.execute(
        name,
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    reader = PostgresDatabase.at(f"postgresql://reader@127.0.0.1:{postgres.port}/{name}")
    try:
        with reader.open() as registry:
            assert known(registry) == known(full)
            assert registry.check() == ()
            for write in (
                registry.probe_writable,
                lambda: registry.commit_expert(**expert_parts("new")),
            ):
                with pytest.raises(ExpertBankError, match="lacks a permission"):
                    write()
    finally:
        postgres.execute(name, "DROP OWNED BY reader", "DROP ROLE reader")


def test_a_server_that_only_reads_is_said_to_be_one(
    postgres: PostgresServer, full: PostgresRegistry, place: PostgresDatabase
) -> None:
    name = name_of(place)
    postgres.execute(name, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        with place.open() as registry:
            assert known(registry) == known(full)
            with pytest.raises(ExpertBankError, match=r"read-only"):
                registry.probe_writable()
    finally:
        reset = f"ALTER DATABASE {name} RESET default_transaction_read_only"
        postgres.execute("postgres", reset)


def test_a_database_of_another_encoding_is_refused(postgres: PostgresServer) -> None:
    postgres.execute(
        "postgres",
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc "
        "LOCALE 'C'",
    )
    with pytest.raises(ExpertBankError, match="UTF8"):
        PostgresDatabase.at(postgres.url("latin")).create()
    postgres.drop("latin")


def test_a_file_cannot_be_written_of_it_and_the_message_names_the_tool(full, tmp_path) -> None:
    with pytest.raises(InputError, match="pg_dump"):
        full.backup(tmp_path / "copy.db")


# -- waiting and trying again ----------------------------------------------------------------------


def test_a_held_lock_is_said_to_be_one(full, place, monkeypatch) -> None:
    monkeypatch.setattr(connections, "LOCK_MS", 100)
    with psycopg.connect(place.address.url.replace("+psycopg", "")) as other:
        other.execute("LOCK TABLE experts")
        for ask in (full.experts, lambda: full.commit_expert(**expert_parts("new"))):
            with pytest.raises(LockedError, match="locked by another process") as caught:
                ask()
            assert caught.value.exit_code == 11
    assert full.check() == ()


def test_a_connection_that_died_while_it_was_idle_is_replaced(postgres, full, place) -> None:
    before = known(full)
    end = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name_of(place)}'"
    )
    postgres.execute("postgres", end)
    assert known(full) == before
    postgres.execute("postgres", end)
    full.commit_expert(**expert_parts("new"))
    assert full.expert("new").version == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_a_server_that_is_restarted_interrupts_nobody_and_loses_nothing(
    postgres: PostgresServer, full: PostgresRegistry, how: signal.Signals
) -> None:
    added: list[str] = []
    stop = threading.Event()

    def add() -> None:
        while not stop.is_set():
            added.append(full.commit_expert(**expert_parts(f"task{len(added)}")).id)

    worker = threading.Thread(target=add)
    worker.start()
    try:
        for _ in range(2):
            time.sleep(0.3)
            before = len(added)
            postgres.restart(how)
            patience = time.monotonic() + 30
            while len(added) <= before + 1 and worker.is_alive():
                assert time.monotonic() < patience
                time.sleep(0.01)
    finally:
        stop.set()
        worker.join()
    assert len(added) > 3
    assert set(added) <= {expert.id for expert in full.experts()}
    assert full.generation() == 3 + len(added), "an expert was added twice or half"
    assert full.check() == ()


@pytest.mark.parametrize("way", ["registry", "revision", "opening", "lock", "state"])
def test_whatever_is_asked_of_a_server_that_was_reached_waits_while_it_restarts(
    postgres: PostgresServer, full: PostgresRegistry, place: PostgresDatabase, way: str
) -> None:
    full.experts()
    lock = DatabaseLock(place.address, 5)
    ask: dict[str, Callable[[], object]] = {
        "registry": full.experts,
        "revision": place.revision,
        "opening": lambda: place.open().experts(),
        "lock": lambda: lock.exclusive().__enter__(),
        "state": lock.state,
    }
    postgres.stop()
    later = threading.Timer(1, postgres.start)
    later.start()
    try:
        assert ask[way]()
    finally:
        later.join()


@pytest.mark.parametrize(
    "said",
    [
        "the database system is starting up",
        "the database system is in recovery mode",
        "the database system is not accepting connections",
        "the database system is not yet accepting connections\n"
        "DETAIL:  Consistent recovery state has not been yet reached.",
    ],
)
def test_a_server_that_recovers_is_waited_for_also_by_who_never_reached_it(said: str) -> None:
    error = psycopg.OperationalError(f"connection failed: FATAL:  {said}")
    known = explained(error, Address.of("postgresql://me@host/bank"), lost=False)
    assert isinstance(known, LostError)
    assert not isinstance(known, NeverReachedError)
    assert "starting or stopping" in str(known)


def test_a_deadlock_with_somebody_else_is_tried_again(full, place) -> None:
    """Another program locks rows in the other order; the server ends one of the two."""
    tried = []

    def promise(session) -> int:

        tried.append(1)
        session.execute(text("LOCK TABLE aliases"))
        if len(tried) == 1:
            holding.set()
            assert asked.wait(10)
            time.sleep(0.3)
        session.execute(text("LOCK TABLE exports"))
        return len(tried)

    holding, asked = threading.Event(), threading.Event()

    def other() -> None:
        with psycopg.connect(place.address.url.replace("+psycopg", "")) as raw:
            raw.execute("SET deadlock_timeout = '20s'")  # so that ours is the one that is ended
            raw.execute("LOCK TABLE exports")
            assert holding.wait(10)
            asked.set()
            raw.execute("LOCK TABLE aliases")

    worker = threading.Thread(target=other)
    worker.start()
    try:
        assert full._keep(promise) == 2
    finally:
        worker.join()
    assert full.check() == ()


def test_conflicts_without_end_are_told_after_a_bounded_number_of_attempts(
    full, monkeypatch
) -> None:

    tried = []

    def conflict(session) -> None:
        tried.append(1)
        session.execute(text("DO $$BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END$$"))

    monkeypatch.setattr("expertbank.registry.postgres.failures.time.sleep", lambda _: None)
    with pytest.raises(ConflictError, match="at the same time") as caught:
        full._keep(conflict)
    assert caught.value.exit_code == 11
    assert 2 <= len(tried) <= 12


def test_a_fork_does_not_share_its_parents_connections(full) -> None:
    assert full.generation() == 3
    child = os.fork()
    if not child:
        try:
            full.commit_expert(**expert_parts("child"))
            os._exit(0)
        finally:
            os._exit(1)
    for number in range(5):
        full.commit_expert(**expert_parts(f"parent{number}"))
    assert os.waitpid(child, 0)[1] == 0
    assert full.generation() == 9
    assert full.check() == ()


def test_few_connections_are_kept_however_many_threads_ask(postgres, full, place) -> None:
    threads = [threading.Thread(target=full.history) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name_of(place)}'"
    assert postgres.execute("postgres", count)[0][0] <= 2 * connections.POOL
    full.close()


def test_without_psycopg_the_extra_is_named_and_with_it_neither_torch_nor_alembic_is_loaded(
    full, place
) -> None:
    lacking = (
        "import sys\nsys.modules['psycopg'] = None\n"
        "from expertbank.registry.postgres.database import PostgresDatabase\n"
        "try:\n    PostgresDatabase.at(sys.argv[1]).exists()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", lacking, place.address.url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "pip install 'expertbank[postgres]'" in done.stdout, done
    heavy = (
        "import sys\n"
        "from expertbank.registry.postgres.database import PostgresDatabase\n"
        "registry = PostgresDatabase.at(sys.argv[1]).open()\nregistry.members()\nregistry.check()\n"
        "heavy = {'alembic', 'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", heavy, place.address.url], check=True, timeout=60)


def test_a_lost_connection_names_the_server_and_no_secret() -> None:
    address = Address.of(f"postgresql://me:{SECRET}@host/bank")
    said = explained(psycopg.OperationalError(f"oh {SECRET}\nno"), address, lost=True)
    assert isinstance(said, LostError)
    assert SECRET not in str(said)
    assert "host/bank" in str(said)


def test_a_new_bank_is_whole_or_not_there(postgres, database) -> None:
    place = PostgresDatabase.at(postgres.url(database))
    with place.create() as registry:
        registry.set_backbone(BACKBONE)
        assert len(registry.bank_id()) == 32
        assert registry.check() == ()
