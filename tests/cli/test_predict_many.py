"""Predicting from files and streams: order kept, memory bounded."""

from __future__ import annotations

import io
import json
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm
from command_line import TASKS, call, content, done, task_rows
from expertbank_cli import predicting

from expertbank import Bank, Row
from expertbank.data import rows_to_answer
from expertbank.texts import LONGEST
from expertbank.workflows.answering.reading import CHUNK

COUNT = 3000


def _texts(count: int) -> list[str]:
    rows = [text for task in TASKS for text, _ in task_rows(task, 80)]
    return [rows[place * 7 % len(rows)] for place in range(count)]


def _jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def test_a_file_and_standard_input_keep_the_order_of_the_rows(bank: Path, tmp_path: Path) -> None:
    texts = _texts(70)
    file = tmp_path / "rows.jsonl"
    file.write_bytes(_jsonl(texts))
    of_file = done("--home", bank, "--json", "predict", "--file", file)
    assert [line["index"] for line in of_file.lines] == list(range(70))
    piped = done("--home", bank, "--json", "predict", "--file", "-", stdin=_jsonl(texts))
    assert piped.out == of_file.out
    one_by_one = [done("--home", bank, "--json", "predict", text).lines[0] for text in texts[:5]]
    for alone, together in zip(one_by_one, of_file.lines, strict=False):
        assert (alone["task"], alone["label"]) == (together["task"], together["label"])
        assert alone["scores"] == pytest.approx(together["scores"], abs=1e-4)


def test_a_stream_of_thousands_is_read_a_bounded_number_ahead(bank: Path) -> None:
    given = 0

    def rows() -> Iterator[Row]:
        nonlocal given
        for text in _texts(COUNT):
            given += 1
            yield Row(text)

    with Bank.open(bank, read_only=True) as opened:
        ahead = []
        indices = []
        for answer in opened.predictor().predict(rows()):
            indices.append(answer.index)
            ahead.append(given - len(indices))
    assert indices == list(range(COUNT))
    assert max(ahead) < CHUNK + 1 < COUNT


def test_answers_come_while_standard_input_is_still_open(bank: Path) -> None:
    with subprocess.Popen(
        [*warm.command(), "--home", bank, "--json", "--quiet", "predict", "--file", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Both pipes fill: a program that read all before it wrote, or the reverse, would hang.
        given = process.stdin

        def give() -> None:
            given.write(_jsonl(_texts(COUNT)))
            given.flush()

        writer = threading.Thread(target=give)
        writer.start()
        early = [json.loads(process.stdout.readline()) for _ in range(CHUNK)]
        assert [line["index"] for line in early] == list(range(CHUNK))
        assert process.poll() is None
        # What is still to be read, so that the writer comes to its end.
        rest: list[bytes] = []
        reader = threading.Thread(target=lambda: rest.extend(process.stdout or ()))
        reader.start()
        writer.join()
        given.close()
        reader.join()
        assert process.wait(timeout=60) == 0
    assert len(early) + len(rest) == COUNT


READING = (
    ["list"],
    ["show", "mood"],
    ["history"],
    ["alias"],
    ["tasks"],
    ["verify"],
    ["forgetting-report"],
    ["forgetting-report", "--verify"],
    ["predict", "a good film"],
)


def test_commands_that_only_read_change_no_byte_of_the_bank(bank: Path) -> None:
    before = content(bank)
    for words in READING:
        done("--home", bank, *words)
        assert content(bank) == before, words


def test_a_bank_on_a_read_only_folder_can_be_read_and_used(bank: Path) -> None:
    folders = [bank, *(path for path in bank.rglob("*") if path.is_dir())]
    (bank / "registry.db").chmod(0o444)
    for folder in folders:
        folder.chmod(0o555)
    try:
        for words in READING:
            done("--home", bank, *words)
    finally:
        for folder in folders:
            folder.chmod(0o755)


def _mixed_file(path: Path, bad_at: int) -> Path:
    lines = [json.dumps({"text": text}) for text in _texts(6)]
    lines[bad_at] = '{"text": '
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_an_early_malformed_row_is_told_before_anything_is_loaded(
    bank: Path, tmp_path: Path
) -> None:
    file = _mixed_file(tmp_path / "rows.jsonl", 3)
    words = ("--home", bank, "--json", "predict", "--file", file)
    answer = call(*words, "--backbone", tmp_path / "nowhere")
    assert answer.code == 2
    assert answer.lines == []
    assert f"{file}:4" in answer.error["message"]


def test_a_late_malformed_row_ends_the_work_after_the_rows_before_it(
    bank: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "good film"}\n' * 1200 + "nonsense\n")
    answer = call("--home", bank, "--json", "predict", "--file", file)
    assert answer.code == 2
    assert [line["index"] for line in answer.lines] == list(range(1200))
    assert f"{file}:1201" in answer.error["message"]


def test_of_a_pipe_every_row_before_the_malformed_one_is_answered(
    bank: Path, tmp_path: Path
) -> None:
    file = _mixed_file(tmp_path / "rows.jsonl", 3)
    words = ("--home", bank, "--json", "predict", "--file", "-")
    answer = call(*words, stdin=file.read_bytes())
    assert [line["index"] for line in answer.lines] == [0, 1, 2]
    assert "standard input:4" in answer.error["message"]


def test_skipped_rows_are_named_by_line_and_leave_a_gap_in_the_indices(
    bank: Path, tmp_path: Path
) -> None:
    file = _mixed_file(tmp_path / "rows.jsonl", 3)
    with file.open("a", encoding="utf-8") as more:
        more.write('{"text": "red film", "choices": ["a", "b"]}\n{"text": "good film"}\n')
    answer = done("--home", bank, "--json", "predict", "--file", file, "--skip-bad")
    assert [line["index"] for line in answer.lines] == [0, 1, 2, 4, 5, 7]
    assert f"{file}:4" in answer.err
    assert f"{file}:7" in answer.err
    assert "2 malformed rows were skipped" in answer.err
    plain = done("--home", bank, "--json", "predict", "good film").lines[0]
    assert answer.lines[-1]["label"] == plain["label"]


@pytest.mark.parametrize("words", [["predict", "--file"], ["unknowns"]])
def test_where_every_row_is_skipped_nothing_was_answered_and_the_code_says_so(
    bank: Path, tmp_path: Path, words: list[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("nonsense\n[1]\n")
    answer = call("--home", bank, "--json", *words, file, "--skip-bad")
    assert answer.code == 2
    assert answer.error["message"] == "none of the 2 rows could be read; nothing was answered"
    assert "rows.jsonl:1" in answer.err
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert call("--home", bank, *words, empty, "--skip-bad").code == 0


def test_an_endless_line_is_one_bad_row_of_which_no_more_than_the_limit_is_read(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expertbank.data.formats.lines.LONGEST", 100)
    lines = [json.dumps({"text": "good film"}), json.dumps({"text": "x" * 1000}), ""]
    answer = call(
        *("--home", bank, "--json", "predict", "--file", "-", "--skip-bad"),
        stdin="\n".join([*lines[:2], lines[0], ""]).encode(),
    )
    assert answer.code == 0
    assert [line["index"] for line in answer.lines] == [0, 2]
    assert "standard input:2" in answer.err


def test_a_table_of_many_rows_is_printed_as_it_goes(bank: Path) -> None:
    few = done("--home", bank, "predict", "--file", "-", stdin=_jsonl(_texts(5))).out
    many = done("--home", bank, "predict", "--file", "-", stdin=_jsonl(_texts(300))).out
    assert len(many.splitlines()) == 301
    assert many.splitlines()[0].split()[:3] == few.split()[:3] == ["row", "task", "label"]
    assert [int(line.split()[0]) for line in many.splitlines()[1:]] == list(range(300))


def test_memory_does_not_grow_with_the_file(bank: Path, tmp_path: Path) -> None:
    """Four times the rows, counted by what Python allocates while they are answered."""

    def peak(count: int) -> int:
        file = tmp_path / f"{count}.jsonl"
        file.write_text('{"text": "good film"}\n' * count)
        tracemalloc.start()
        try:
            rows = rows_to_answer(str(file))
            answered = sum(1 for _ in predictor.predict(rows, batch_size=256))
            assert answered == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with Bank.open(bank, read_only=True) as opened:
        predictor = opened.predictor()
        peak(1500)
        small = peak(1500)
        assert peak(6000) < 1.5 * small


def test_a_text_from_standard_input_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "é" * (LONGEST - 5) + " tail"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert predicting._standard_input() == text


@pytest.mark.parametrize("text", ["é" * (LONGEST + 1), "a" * (4 * LONGEST + 1)], ids=len)
def test_a_text_from_standard_input_that_is_too_long_is_refused(bank: Path, text: str) -> None:
    answer = call("--home", bank, "predict", "-", stdin=text.encode())
    assert answer.code == 2
    assert "10,000,000" in answer.err
