"""What a file on disk goes through when processes die or fork."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable

from expertbank.registry.sqlite.file import SqliteFile
from expertbank.testing.bank_rows import expert_parts


def forked(work: Callable[[], object]) -> int:
    """Process id of a fork that runs ``work`` and then ends: 0 when it did not fail."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def test_making_a_registry_leaves_one_file_and_nothing_beside_it(path) -> None:
    SqliteFile(path).create().close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_reader_undoes_what_a_killed_writer_left_in_the_file(full, path) -> None:
    reader, writer = os.pipe()

    def spill_then_wait() -> None:
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("PRAGMA cache_size=1")  # unfinished pages go into the file itself
        raw.execute("BEGIN IMMEDIATE")
        for number in range(2000):
            raw.execute(
                "INSERT INTO runs VALUES (?, 'x', '{}', 0, '{}', '{}', "
                "(SELECT digest FROM backbones), 0, '')",
                (number + 100,),
            )
        os.write(writer, b"!")
        time.sleep(60)

    child = forked(spill_then_wait)
    assert os.read(reader, 1) == b"!"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.with_name(f"{path.name}-journal").exists()
    registry = SqliteFile(path).open(read_only=True)
    with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as raw:
        assert raw.execute("SELECT count(*) FROM runs").fetchone() == (5,)
    assert registry.check() == ()
    assert not path.with_name(f"{path.name}-journal").exists()


def test_a_registry_opened_before_a_fork_works_on_both_sides(empty) -> None:
    child = forked(lambda: empty.commit_expert(**expert_parts("child")))
    empty.commit_expert(**expert_parts("parent"))
    assert os.waitpid(child, 0)[1] == 0
    assert [expert.id for expert in empty.experts()] == ["child@1", "parent@1"]
