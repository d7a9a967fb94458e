"""What `docs/team.md` tells one to type works on a real PostgreSQL and a real S3 over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from running import command
from transcripts import commands

if TYPE_CHECKING:
    from bucket_server import Bucket
    from postgres_server import PostgresServer

HOME = "postgresql+psycopg://me@db.example.org/bank"
STORE = "s3://my-bucket/bank"


def test_a_team_bank_is_made_and_a_folder_is_taken_along(
    postgres: PostgresServer,
    bucket: Bucket,
    backbone_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"the {film} is {word},{word}" for film in "abcdefgh" for word in ("good", "bad")]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    pairs = [{"question": "is it good", "passage": text, "answer": "good" in text} for text in rows]
    (tmp_path / "boolq.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    small = ["--epochs", "1", "--max-length", "64"]
    data = ["--data", "rows.csv", *small]
    made = ["init", "--backbone", str(backbone_folder("bert"))]
    assert command(["--home", "bank", *made]).code == 0
    assert command(["--home", "bank", "add", "--task", "mood", *data]).code == 0
    init, add, copy = commands("docs/team.md")
    databases = [postgres.make(), postgres.make()]
    try:
        first, second = map(postgres.url, databases)
        monkeypatch.setenv("EXPERTBANK_HOME", first)
        words = [bucket.url("one") if word == STORE else word for word in init]
        words += ["--backbone", str(backbone_folder("bert"))]
        assert (ran := command(words)).code == 0, ran
        assert (ran := command([*add, "--data", "boolq.jsonl", *small])).code == 0, ran
        there = {HOME: second, STORE: bucket.url("two")}
        assert (ran := command([there.get(word, word) for word in copy])).code == 0, ran
        listed = [command(["--home", home, "--json", "list"]) for home in (first, second)]
        assert ['"boolq"' in one.out for one in listed] == [True, False]
        assert ['"mood"' in one.out for one in listed] == [False, True]
    finally:
        for name in databases:
            postgres.drop(name)
