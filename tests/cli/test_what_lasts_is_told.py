"""What a command did for good is told, whatever ends it: nothing that stays is called undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Answer, call, content, done, write_task

from expertbank.artifacts.local import LocalStore
from expertbank.registry.sqlite.registry import SqliteRegistry
from expertbank.workflows.checkpoints import CheckpointFile

Patch = pytest.MonkeyPatch


def interrupted_at(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, but Ctrl-C comes in place of its call of that number, from 1."""
    calls = 0

    def instead(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt
        return function(*arguments, **named)

    return instead


def told(answer: Answer) -> list[str]:
    """What an interrupted command says that it did."""
    assert answer.code == 130
    assert "nothing half-done was kept" not in answer.err
    found: list[str] = answer.error["done"]
    return found


@pytest.fixture
def removed(bank: Path) -> Path:
    """A bank of which a task was removed and whose router is without it."""
    done("--home", bank, "remove", "--task", "poll", "--yes", "--retrain-router")
    return bank


def test_an_import_that_is_interrupted_names_the_experts_that_are_in(
    importable: Path, tmp_path: Path
) -> None:
    home = tmp_path / "other"
    with Patch.context() as patch:
        patch.setattr(
            SqliteRegistry, "commit_expert", interrupted_at(3, SqliteRegistry.commit_expert)
        )
        answer = call("--home", home, "--json", "import", importable)
    assert told(answer) == ["imported mood@1", "imported poll@1"]
    listed = done("--home", home, "--json", "list").document["experts"]
    assert [expert["id"] for expert in listed] == ["mood@1", "poll@1"]
    again = done("--home", home, "--json", "import", importable).document
    assert [expert["id"] for expert in again["imported"]] == ["sport@1"]


def test_a_gc_that_is_interrupted_tells_what_is_gone_and_the_next_one_ends_it(
    removed: Path,
) -> None:
    with Patch.context() as patch:
        patch.setattr(LocalStore, "delete", interrupted_at(2, LocalStore.delete))
        answer = call("--home", removed, "--json", "gc", "--purge-removed", "--yes")
    gone, count = told(answer)
    assert gone == "gave up the files of poll"
    assert count.startswith("deleted 1 file of ")
    assert count.endswith(", a later gc deletes the others")
    assert done("--home", removed, "--json", "gc", "--yes", "--grace", 0).document["deleted"]
    assert done("--home", removed, "--json", "verify").document["unreferenced"] == []


def test_a_gc_that_the_disk_ends_tells_it_too(removed: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with Patch.context() as patch:
        patch.setattr(LocalStore, "delete", refuse)
        answer = call("--home", removed, "--json", "gc", "--purge-removed", "--yes")
    assert answer.code == 1
    assert answer.error["done"] == ["gave up the files of poll"]


@pytest.mark.parametrize("form", ["bundle", "peft"])
def test_an_export_that_is_interrupted_once_it_stands_says_so(
    form: str, bank: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    with Patch.context() as patch:
        patch.setattr(
            SqliteRegistry, "commit_export", interrupted_at(1, SqliteRegistry.commit_export)
        )
        answer = call("--home", bank, "--json", "export", target, "--format", form)
    assert told(answer) == [f"{target} was written"]
    assert (target / "manifest.json").exists()


def test_a_router_that_is_active_when_ctrl_c_comes_is_named(bank: Path) -> None:
    done("--home", bank, "remove", "--task", "poll", "--yes")
    with Patch.context() as patch:
        patch.setattr(SqliteRegistry, "aliases", interrupted_at(1, SqliteRegistry.aliases))
        answer = call("--home", bank, "--json", "retrain-router")
    assert told(answer) == ["router@3 is active"]


def test_a_router_that_was_fitted_after_an_add_is_not_left_to_do(
    bank: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "more.csv", "mood", seed=5)
    words = ["add", "--task", "more", "--data", data, "--epochs", 1, "--retrain-router"]
    with Patch.context() as patch:
        patch.setattr(SqliteRegistry, "aliases", interrupted_at(1, SqliteRegistry.aliases))
        answer = call("--home", bank, "--json", *words)
    assert told(answer) == ["more@1 was added", "router@3 is active"]
    assert "todo" not in answer.error


def test_an_expert_that_was_added_is_not_to_be_gone_on_with(bank: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "more.csv", "mood", seed=5)
    with Patch.context() as patch:
        patch.setattr(CheckpointFile, "remove", interrupted_at(1, CheckpointFile.remove))
        answer = call(
            *("--home", bank, "--json", "add", "--task", "more", "--data", data, "--epochs", 1)
        )
    assert told(answer) == ["more@1 was added"]
    assert "--resume" not in answer.err


def test_a_copy_that_is_interrupted_tells_of_the_files_that_it_finds_again(
    bank: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    with Patch.context() as patch:
        patch.setattr(
            "expertbank.workflows.keeping.copying.transfer.copy_rows",
            interrupted_at(1, lambda: None),
        )
        answer = call("--json", "db", "copy", bank, target)
    (said,) = told(answer)
    count = len([path for path in content(target) if path.endswith(".safetensors")])
    assert said == f"{count} files are at {target / 'objects'}, and the same command goes on " + (
        "from there"
    )
    assert done("--json", "db", "copy", bank, target).document["copied"] == 0
