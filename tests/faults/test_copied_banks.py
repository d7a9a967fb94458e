"""``db copy``: the same bank elsewhere, whole or not at all, however often it is interrupted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bucket_server import Bucket, failing
from postgres_server import PostgresServer, places
from stored_files import BACKBONE, stored_expert, stored_router

from expertbank import Bank
from expertbank.artifacts.local import LocalStore
from expertbank.errors import (
    ExistsError,
    ExpertBankError,
    InputError,
    IntegrityError,
    NotFoundError,
)
from expertbank.registry.registry import Registry
from expertbank.testing.bank_rows import expert_parts, known, run
from expertbank.workflows.home import OBJECTS, DatabaseHome, FolderHome, Home
from expertbank.workflows.keeping.check import check
from expertbank.workflows.keeping.collect import collect
from expertbank.workflows.keeping.copying import copy_bank
from expertbank.workflows.workspace import Workspace

COMMAND = (sys.executable, "-m", "expertbank_cli.main", "--json", "db", "copy")


def grow(home: Home, *tasks: str) -> None:
    """Add experts with real files, and a router over all."""
    workspace = Workspace.open(home)
    for task in tasks:
        workspace.registry.commit_expert(**stored_expert(workspace.store, task, 1))
    _routed(workspace)
    workspace.close()


def _routed(workspace: Workspace) -> None:
    registry = workspace.registry
    registry.commit_router(
        **stored_router(workspace.store, registry.members()),
        expected_generation=registry.generation(),
        activate=True,
        reason="test",
    )


def stock(home: Home, store: str | None = None) -> None:
    """A bank with rows in every table, a removed task, a group, deleted files and a router of
    old."""
    home.prepare()
    home.location.create().set_backbone(replace(BACKBONE, store=store))
    grow(home, "boolq", "sst2", "rte")
    grow(home, "mnli")
    workspace = Workspace.open(home)
    registry = workspace.registry
    registry.set_group(["boolq", "sst2"], "texts", run("group"))
    registry.remove_task("rte", run("remove", task="rte"))
    _routed(workspace)
    registry.set_alias("stable", 3, "known good")
    collect(workspace, purge_removed=True, keep_routers=1, grace_hours=0)
    workspace.close()


def told(home: Home) -> tuple[object, ...]:
    """All that a bank knows, but where its files are."""
    with home.location.open(read_only=True) as registry:
        backbone, *rest = known(registry)
        runs = [registry.run(number) for number in range(1, 200) if _has(registry, number)]
        assert registry.check() == ()
        return (registry.bank_id(), replace(backbone, store=None), runs, *rest)  # type: ignore[type-var]


def _has(registry: Registry, number: int) -> bool:
    try:
        registry.run(number)
    except NotFoundError:
        return False
    return True


def sound(home: Home) -> None:
    workspace = Workspace.open(home, read_only=True)
    verified = check(workspace)
    workspace.close()
    assert verified.problems == ()
    assert verified.unreferenced == ()


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stocked") / "bank"
    stock(FolderHome(folder))
    return folder


@pytest.fixture
def folder(stocked: Path, tmp_path: Path) -> FolderHome:
    shutil.copytree(stocked, tmp_path / "bank")
    return FolderHome(tmp_path / "bank")


@pytest.fixture
def database(postgres: PostgresServer, tmp_path: Path) -> Iterator[DatabaseHome]:
    with places(postgres) as place:
        yield DatabaseHome(place(), tmp_path / "cache")


def test_a_folder_goes_to_postgresql_and_s3_and_back_and_is_the_same_bank(
    folder: FolderHome, database: DatabaseHome, bucket: Bucket, tmp_path: Path
) -> None:
    url, before = bucket.url("team"), told(folder)
    there = copy_bank(folder, database, store=url)
    assert told(database) == before == told(folder)
    sound(database)
    assert (there.experts, there.routers, there.store) == (4, 3, url)
    assert there.copied == there.files > 5
    assert there.bank == before[0]
    again = FolderHome(tmp_path / "again")
    back = copy_bank(database, again)
    assert told(again) == before
    sound(again)
    assert (back.rows, back.files) == (there.rows, there.files)
    # Byte for byte: what is in the store of one is in the store of the other.
    files = {path.name: path.read_bytes() for path in (folder.folder / OBJECTS).rglob("*.s*")}
    assert files == {p.name: p.read_bytes() for p in (again.folder / OBJECTS).rglob("*.s*")}


def test_python_copies_a_bank_too(folder: FolderHome, tmp_path: Path) -> None:
    with Bank.open(folder.folder, create=False) as bank:
        done = bank.copy_to(tmp_path / "copy")
    assert (done.experts, done.store) == (4, None)
    assert told(FolderHome(tmp_path / "copy")) == told(folder)


def test_a_copy_grows_as_any_bank_does(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    copy_bank(folder, database, store=(tmp_path / "files").as_uri())
    grow(database, "cola")
    sound(database)
    with database.location.open() as registry, pytest.raises(ExpertBankError):
        registry.commit_expert(**expert_parts("cola"))
    rows = Workspace.open(database).registry.history()
    assert rows[-1].subject in {"active", "cola@1", "router@4"}


def test_called_again_nothing_is_copied_and_everything_is_verified(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    url = (tmp_path / "files").as_uri()
    first = copy_bank(folder, database, store=url)
    for store in (url, None):
        again = copy_bank(folder, database, store=store)
        assert (again.rows, again.copied, again.files) == (0, 0, first.files)
    # A file that was damaged there is mended.
    store = database.store(url)
    digest = next(store.digests())
    path = Path(store.where(digest))
    path.chmod(0o644)
    path.write_bytes(b"rot")
    assert copy_bank(folder, database).copied == 1
    sound(database)


def test_what_was_added_since_comes_over_too(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    copy_bank(folder, database, store=(tmp_path / "files").as_uri())
    grow(folder, "cola", "qnli")
    workspace = Workspace.open(folder)
    workspace.registry.remove_task("cola", run("remove", task="cola"))
    workspace.registry.set_alias("stable", 4, "newer")
    done = copy_bank(folder, database)
    assert done.rows
    assert told(database) == told(folder)
    sound(database)


def test_a_copy_that_went_on_by_itself_is_left_alone(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    copy_bank(folder, database, store=(tmp_path / "files").as_uri())
    grow(database, "cola")
    before = told(database)
    grow(folder, "qnli")
    with pytest.raises(ExistsError, match="went on there by itself"):
        copy_bank(folder, database)
    assert told(database) == before


def test_another_bank_is_left_alone(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    url = (tmp_path / "other").as_uri()
    stock(database, url)
    before = told(database)
    with pytest.raises(ExistsError, match="another bank"):
        copy_bank(folder, database)
    with pytest.raises(ExistsError, match="another bank"):
        copy_bank(database, folder)
    assert told(database) == before
    # Nor does a copy take a store that is another bank's.
    free = (tmp_path / "claimed").as_uri()
    database.store(free).claim("f" * 32)
    with pytest.raises(InputError, match="another bank's"):
        copy_bank(folder, FolderHome(tmp_path / "third"), store=free)


def test_what_cannot_be_copied_is_refused_before_anything_is_written(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="source and destination"):
        copy_bank(folder, FolderHome(folder.folder / ".." / folder.folder.name))
    with pytest.raises(InputError, match="needs a store"):
        copy_bank(folder, database)
    with pytest.raises(NotFoundError, match="no bank"):
        copy_bank(FolderHome(tmp_path / "nothing"), database, store=(tmp_path / "x").as_uri())
    outside = FolderHome(tmp_path / "outside")
    url = (tmp_path / "files").as_uri()
    stock(outside, url)
    with pytest.raises(InputError, match="one of its own"):
        copy_bank(outside, database, store=url)
    assert not database.location.exists()
    assert not (tmp_path / "nothing").exists()


def test_a_copy_never_shares_the_files_of_its_source_whatever_they_are_called(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(folder.folder)
    for source, store in (
        (folder, tmp_path / "link" / OBJECTS),
        (FolderHome(Path("link")), folder.folder / OBJECTS),
        (FolderHome(Path(folder.folder.name)), folder.folder / OBJECTS),
    ):
        with pytest.raises(InputError, match="one of its own"):
            copy_bank(source, database, store=store.as_uri())
    assert not database.location.exists()


def test_a_copy_takes_no_store_with_files_of_who_knows_whom(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    other = FolderHome(tmp_path / "other")
    stock(other)
    with pytest.raises(InputError, match="files of another bank"):
        copy_bank(folder, database, store=(other.folder / OBJECTS).as_uri())
    assert not database.location.exists()
    sound(other)
    # Its own of an earlier copy, whose database is gone, it takes again.
    mine = tmp_path / "mine"
    store = LocalStore(mine)
    store.claim(str(told(folder)[0]))
    store.put(b"of an earlier copy")
    assert copy_bank(folder, database, store=mine.as_uri()).experts == 4


def test_a_damaged_file_stops_the_copy_before_any_row(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    store = folder.store(None)
    digest = next(store.digests())
    path = Path(store.where(digest))
    path.chmod(0o644)
    path.write_bytes(b"rot")
    with pytest.raises(IntegrityError, match=digest):
        copy_bank(folder, database, store=(tmp_path / "files").as_uri())
    with database.location.open() as registry:
        assert registry.backbone() is None
    path.unlink()
    Workspace.open(folder).store.put(b"")
    with pytest.raises(IntegrityError, match=digest):
        copy_bank(folder, database, store=(tmp_path / "files").as_uri())


def test_a_bank_that_nobody_may_write_to_is_copied(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    folder.folder.chmod(0o555)
    try:
        copy_bank(folder, database, store=(tmp_path / "files").as_uri())
    finally:
        folder.folder.chmod(0o755)
    sound(database)


def test_others_may_add_to_the_bank_while_it_is_copied(
    folder: FolderHome, database: DatabaseHome, tmp_path: Path
) -> None:
    stop = threading.Event()
    added: list[str] = []

    def add() -> None:
        while not stop.wait(0.02) and len(added) < 30:
            grow(folder, f"task{len(added)}")
            added.append(f"task{len(added)}@1")

    worker = threading.Thread(target=add)
    worker.start()
    try:
        copy_bank(folder, database, store=(tmp_path / "files").as_uri())
    finally:
        stop.set()
        worker.join()
    sound(database)
    copy_bank(folder, database)
    assert told(database) == told(folder)
    sound(database)


# -- killed ----------------------------------------------------------------------------------------


Child = subprocess.Popen[str]


def copying(source: Home, target: Home, url: str | None, cache: Path) -> Child:
    """The command as a process of its own, on its way."""
    named = [
        home.location.address.url if isinstance(home, DatabaseHome) else str(home)
        for home in (source, target)
    ]
    store = [] if url is None else ["--store", url]
    environment = {**os.environ, "EXPERTBANK_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *named, *store],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_at_any_request_of_the_store_it_goes_on_when_called_again(
    folder: FolderHome, database: DatabaseHome, bucket: Bucket, tmp_path: Path
) -> None:
    """One destination, killed again and again, a little later each time, until it is done."""
    with failing(bucket.port) as proxy:
        url, kills = bucket.url("team", port=proxy.port), 0
        for at in (0, 3, 9, 22, 10_000):
            start = len(proxy.seen)
            child = copying(folder, database, url, tmp_path / "cache")

            def kill(
                number: int, *_: str, last: int = start + at, child: Child = child
            ) -> str | None:
                if number != last:
                    return None
                child.kill()
                return "drop"

            proxy.fault = kill
            out, err = child.communicate(timeout=120)
            if child.returncode == 0:
                break
            assert child.returncode == -9, err
            kills += 1
            if database.location.exists():
                with database.location.open() as registry:
                    assert registry.backbone() is None, "rows came before all files were there"
        proxy.fault = lambda number, method, path: None
        assert kills >= 3
        assert json.loads(out)["experts"] == 4
        # What had come over before was not copied again.
        assert json.loads(out)["copied"] < json.loads(out)["files"]
        assert told(database) == told(folder)
        sound(database)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["to the database", "back to a folder"])
def test_killed_while_rows_come_over_there_are_all_of_them_or_none(
    folder: FolderHome,
    database: DatabaseHome,
    postgres: PostgresServer,
    tmp_path: Path,
    way: str,
) -> None:
    from cutting_proxy import cutting

    store, target, source = (tmp_path / "files").as_uri(), database, folder
    with cutting(postgres.port) as proxy:
        through = DatabaseHome(
            type(database.location).at(
                database.location.address.url.replace(str(postgres.port), str(proxy.port))
            ),
            database.cache,
        )
        if way == "back to a folder":
            copy_bank(folder, database, store=store)
            source, target, store = through, FolderHome(tmp_path / "back"), None  # type: ignore[assignment]
            there: Home = target
        else:
            target, there = through, database
        kills = whole = 0
        for at in (12, 40, 65, 90, 10_000):
            start = proxy.sent
            child = copying(source, target, store, tmp_path / "cache")
            proxy.at = lambda number, start=start, at=at, child=child: (
                child.kill() if number - start == at else None
            )
            _, err = child.communicate(timeout=120)
            if child.returncode == 0:
                whole += 1
                break
            assert child.returncode == -9, err
            kills += 1
            if there.location.exists():
                with there.location.open() as registry:
                    assert registry.backbone() is None or told(there) == told(folder)
        assert kills >= 3
        assert whole
    assert told(there) == told(folder)
    sound(there)
