"""A bank that was opened for reading is written to by none of its methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from expertbank import Bank
from expertbank.errors import ReadOnlyError


@pytest.mark.parametrize(
    "write",
    [
        lambda bank, job: bank.add("more", data=job / "sports.csv"),
        lambda bank, job: bank.retrain_router("ridge"),
        lambda bank, job: bank.set_alias("other", 1),
        lambda bank, job: bank.group("desk", ["laws", "films"]),
        lambda bank, job: bank.remove("films"),
        lambda bank, job: bank.gc(grace_hours=0, keep_routers=1),
        lambda bank, job: bank.restore(job / "backup"),
    ],
    ids=["add", "retrain_router", "set_alias", "group", "remove", "gc", "restore"],
)
def test_what_would_write_is_refused_and_nothing_changes(
    job: Path, write: Callable[[Bank, Path], object]
) -> None:
    with Bank.open(job / "bank") as bank:
        first, second, _ = (task.name for task in bank.tasks())
        bank.backup(job / "backup")
        bank.remove(second)
    before = {path: path.read_bytes() for path in (job / "bank").glob("registry*")}
    with Bank.open(job / "bank", read_only=True) as bank:
        with pytest.raises(ReadOnlyError, match="opened for reading only"):
            write(bank, job)
        bank.restore(job / "backup", dry_run=True)
        assert first in {task.name for task in bank.tasks()}
        assert second not in {task.name for task in bank.tasks()}
    assert {path: path.read_bytes() for path in (job / "bank").glob("registry*")} == before
