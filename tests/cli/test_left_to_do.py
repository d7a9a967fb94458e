"""Of a command with several steps, what was done is told whatever became of the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import call, done, write_task

from expertbank import Bank
from expertbank.workflows.growing import retrain

Meanwhile = Callable[[Callable[[], None]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Let something happen once while the next router is fitted."""

    def arrange(happens: Callable[[], None]) -> None:
        fit = retrain.solve

        def fitting(*words: object) -> object:
            monkeypatch.setattr(retrain, "solve", fit)
            happens()
            return fit(*words)  # type: ignore[arg-type]

        monkeypatch.setattr(retrain, "solve", fitting)

    return arrange


def refit(home: Path) -> str:
    """The command, about the bank that the last one was about."""
    return f"expertbank --home {home} retrain-router"


def removing(bank: Path, task: str) -> Callable[[], None]:
    """A real change by another command."""

    def remove() -> None:
        with Bank.open(bank) as other:
            other.remove(task)

    return remove


def interrupt() -> None:
    raise KeyboardInterrupt


def disk_full() -> None:
    raise OSError(28, "No space left on device", "objects/ab")


def test_an_expert_added_beside_another_change_is_told_with_what_is_left(
    bank: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 60, seed=5)
    add = ["--home", bank, "add", "--data", data, "--epochs", 1, "--retrain-router", "--task"]
    meanwhile(removing(bank, "poll"))
    answer = call("--json", *add, "one")
    assert answer.code == 4
    document = answer.document
    assert document["expert"]["id"] == "one@1"
    assert document["router"] is None
    assert document["todo"] == refit(bank)
    assert document["error"]["code"] == 4
    assert answer.error["done"] == ["one@1 was added"]
    assert answer.error["todo"] == refit(bank)
    meanwhile(removing(bank, "sport"))
    answer = call(*add, "two")
    assert answer.code == 4
    assert "two@1" in answer.out
    assert f"done: two@1 was added; to do: {refit(bank)}" in answer.err
    assert done("--home", bank, "--json", "retrain-router").document["tasks"] == [
        "mood",
        "one",
        "two",
    ]


@pytest.mark.parametrize(("happens", "code"), [(interrupt, 130), (disk_full, 1)])
def test_whatever_ends_the_second_step_the_first_is_told(
    happens: Callable[[], None], code: int, bank: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 60, seed=5)
    add = ["--home", bank, "--json", "add", "--data", data, "--epochs", 1, "--task", "more"]
    meanwhile(happens)
    answer = call(*add, "--retrain-router")
    assert answer.code == code
    assert answer.document["expert"]["id"] == "more@1"
    assert answer.document["error"]["code"] == answer.error["code"] == code
    assert answer.error["done"] == ["more@1 was added"]
    assert "nothing" not in answer.error["message"]


def test_experts_of_a_list_are_told_when_one_fails_and_when_the_router_does(
    bank: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 60, seed=5)
    (tmp_path / "list.yaml").write_text(
        f"- {{task: one, data: {data}}}\n- {{task: two, data: gone.csv}}\n"
        f"- {{task: three, data: '{'x' * 300}'}}\n"
    )
    meanwhile(removing(bank, "poll"))
    words = ["add", "--list", tmp_path / "list.yaml", "--epochs", 1, "--retrain-router"]
    answer = call("--home", bank, "--json", *words)
    assert answer.code == 4
    assert [one["expert"]["id"] for one in answer.document["added"]] == ["one@1"]
    assert [one["task"] for one in answer.document["failed"]] == ["two", "three"]
    assert answer.document["todo"] == refit(bank)


def test_a_removal_is_told_when_the_router_fails(bank: Path, meanwhile: Meanwhile) -> None:
    meanwhile(removing(bank, "poll"))
    words = ["--home", bank, "--json", "remove", "--task", "mood", "--yes", "--retrain-router"]
    answer = call(*words)
    assert answer.code == 4
    assert answer.document["task"] == "mood"
    assert answer.document["removed_at"]
    assert answer.document["todo"] == refit(bank)
    assert answer.error["done"] == ["the task mood was removed"]
    assert done(*words).document["todo"] == ""


def test_what_is_left_after_an_add_or_an_import_is_in_the_document(
    bank: Path, importable: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 60, seed=5)
    add = ["--home", bank, "--json", "add", "--data", data, "--epochs", 1, "--task"]
    assert done(*add, "one").document["todo"] == refit(bank)
    assert "todo" not in done(*add, "two", "--retrain-router").document
    words = ["--home", tmp_path / "new", "--json", "import", importable]
    assert done(*words).document["todo"] == refit(tmp_path / "new")
    assert done(*words).document["todo"] == "", "nothing was imported"
