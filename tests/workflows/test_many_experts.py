"""Ten thousand registered experts: opening loads none of them, an answer loads the one it needs."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from small_bank import texts

from expertbank import Bank, Row
from expertbank.artifacts.local import LocalStore
from expertbank.records import ExpertRecord

COUNT = 10_000


def crowd(database: Path, count: int) -> None:
    """Register ``count`` more tasks, each with an expert whose file is nowhere."""
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        task = dict(connection.execute("SELECT * FROM tasks WHERE name = 'films'").fetchone())
        query = "SELECT * FROM experts WHERE task_id = ?"
        expert = dict(connection.execute(query, [task["id"]]).fetchone())
        query = "SELECT * FROM artifacts WHERE digest = ?"
        artifact = dict(connection.execute(query, [expert["digest"]]).fetchone())

        def insert(table: str, like: dict[str, object], changed: list[dict[str, object]]) -> None:
            marks = ", ".join("?" * len(like))
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(like)}) VALUES ({marks})",
                [tuple({**like, **change}.values()) for change in changed],
            )

        numbers = range(1, count + 1)
        insert("tasks", task, [{"id": 1000 + n, "name": f"task{n:05d}"} for n in numbers])
        insert("artifacts", artifact, [{"digest": f"{n:064x}"} for n in numbers])
        insert(
            "experts",
            expert,
            [{"id": 1000 + n, "task_id": 1000 + n, "digest": f"{n:064x}"} for n in numbers],
        )


def test_opening_and_answering_touch_only_what_is_used(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Bank.open(job / "bank") as bank:
        expected = bank.predict(texts(4))
    crowd(job / "bank" / "registry.db", COUNT)
    read: list[str] = []
    made: list[str] = []
    get, init = LocalStore.get, ExpertRecord.__init__

    def counted_get(store: LocalStore, digest: str) -> bytes:
        read.append(digest)
        return get(store, digest)

    def counted_init(record: ExpertRecord, task: str, *rest: Any, **named: Any) -> None:
        made.append(task)
        init(record, task, *rest, **named)

    monkeypatch.setattr(LocalStore, "get", counted_get)
    monkeypatch.setattr(ExpertRecord, "__init__", counted_init)
    with Bank.open(job / "bank", read_only=True) as bank:
        predictor = bank.predictor()
        assert len(predictor.tasks) == COUNT + 3
        assert len(read) == 1, "the router, and no expert"
        assert made == []
        assert predictor.model.pool.nbytes == 0
        answers = list(predictor.predict([Row(text) for text in texts(4)]))
        assert answers == expected
        used = {answer.expert for answer in answers}
        assert len(read) == 1 + len(used)
        assert len(made) <= 3 * len(used)
        assert bank.predictor() is predictor


def test_a_bundle_reads_an_expert_into_memory_only_when_it_answers(job: Path) -> None:
    from expertbank import load_bundle

    manifest = json.loads((job / "bundle" / "manifest.json").read_text())
    assert len(manifest["experts"]) == 3
    loaded = load_bundle(job / "bundle")
    assert loaded.model.pool.nbytes == 0
    (answer,) = loaded.predict([Row("a good film")], task="films")
    assert answer.expert == "films@1"
    one = loaded.model.pool.nbytes
    assert one > 0
    list(loaded.predict([Row("vote yes")], task="laws"))
    assert loaded.model.pool.nbytes == pytest.approx(2 * one)
