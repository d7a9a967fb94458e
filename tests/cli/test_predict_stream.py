"""Answers appear as they are written, and are those of ``predict``; none is written for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import call, done, task_rows, write_task
from small_tasks import write_jsonl
from test_generation_command import KIND, paint_rows, write_paint

from expertbank import Bank
from expertbank.errors import InputError
from expertbank.models.writing import Writer, Written

UNTAUGHT = ("--epochs", 1, "--lr", 1e-6, "--max-tokens", 6)
"""A random model says more than one that was taught short answers."""


@pytest.fixture(scope="module")
def home(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streaming")
    add = ["--home", folder / "bank", "add", "--backbone", backbone_folder("llama, tied")]
    paint = write_paint(folder / "paint.csv", 30)
    done(*add, *KIND, "--task", "paint", "--data", paint, *UNTAUGHT)
    mood = write_task(folder / "mood.csv", "mood", 30)
    done(*add, "--task", "mood", "--data", mood, "--epochs", 1, "--retrain-router")
    return folder / "bank"


def texts() -> list[str]:
    return [text for text, _ in [*paint_rows(4, seed=3), *task_rows("mood", 2, seed=3)]]


def test_parts_come_before_the_rows_own_line_and_add_up_to_its_text(home: Path) -> None:
    asked = ["--home", home, "predict", "--json", *texts()]
    plain, lines = done(*asked).lines, done(*asked, "--stream").lines
    whole = [line for line in lines if "part" not in line]
    told = ("index", "task", "expert", "label", "text", "finish", "unknown")
    assert [[one.get(name) for name in told] for one in whole] == [
        [one.get(name) for name in told] for one in plain
    ]
    assert any(one["task"] == "paint" for one in whole)
    before: dict[int, list[str]] = {one["index"]: [] for one in whole}
    ended: set[int] = set()
    for line in lines:
        if "part" in line:
            assert set(line) == {"index", "part"}
            assert line["index"] not in ended
            before[line["index"]].append(line["part"])
        else:
            ended.add(line["index"])
    for one in whole:
        assert "".join(before[one["index"]]) == one.get("text", "")
    assert max(map(len, before.values())) >= 3, "words come one by one"


def test_a_person_sees_each_answer_on_lines_of_its_own(home: Path) -> None:
    asked = ["--home", home, "predict", *texts()]
    expected = [one.get("text", one["label"]) for one in done(*asked, "--json").lines]
    answer = done(*asked, "--stream")
    assert answer.out == "".join(f"{text}\n" for text in expected)


def test_rows_are_answered_one_after_the_other_and_a_bad_one_is_left_out(
    home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "the sky is red"}\n{"text": ""}\n{"text": "a sky of blue"}\n')
    asked = ["--home", home, "predict", "--task", "paint", "--stream", "--json", "--file", file]
    lines = done(*asked, "--skip-bad").lines
    assert [line["index"] for line in lines] == sorted(line["index"] for line in lines)
    assert {line["index"] for line in lines} == {0, 2}


def test_what_is_decided_after_an_answer_cannot_be_streamed(home: Path) -> None:
    asked = ["--home", home, "predict", "--stream", "the sky is red"]
    for more in (["--abstain"], ["--fallback", "mood"], ["--second-opinion"]):
        refused = call(*asked, *more)
        assert refused.code == 2
        assert "cannot be taken back" in refused.err
    assert call(*asked, "--explain").code == 2


def test_who_is_told_may_end_an_answer(home: Path) -> None:
    heard: list[tuple[int, str]] = []

    def told(index: int, text: str) -> bool:
        heard.append((index, text))
        return False

    with Bank.open(home) as bank:
        predictor = bank.predictor()
        rows = ["the sky is red", "a sky of blue"]
        found = list(predictor.predict(rows, task="paint", told=told))
        with pytest.raises(InputError, match="taken back"):
            predictor.predict(rows, abstain=True, told=told)
    assert [index for index, _ in heard] == [0, 1]
    assert [one.written_tokens for one in found] == [1, 1]


@pytest.mark.parametrize("command", ["unknowns", "map"])
def test_who_is_asked_only_where_rows_belong_writes_no_more_than_the_first_token(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts()])
    unknown = [one["unknown"] for one in done("--home", home, "predict", "--json", *texts()).lines]
    tokens: list[int] = []
    write = Writer.write

    def counted(*given: Any) -> list[Written]:
        written = write(*given)
        tokens.extend(one.tokens for one in written)
        return written

    monkeypatch.setattr(Writer, "write", counted)
    asked = {"unknowns": ["unknowns", file], "map": ["map", "--file", file]}[command]
    found = done("--home", home, "--json", *asked).document
    assert set(tokens) == {1}
    if command == "map":
        assert [row["unknown"] for row in found["rows"]] == unknown
    else:
        assert found["unknown"] == sum(unknown)
