"""Rows that were asked are read from a file of rows or from a server's log, whatever its name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from expertbank.data import Columns, asked_rows, rows_to_answer
from expertbank.data.asked import LOG_KEYS
from expertbank.errors import DataError, InputError
from expertbank.http.logs import line
from expertbank.http.seen import Seen
from expertbank.records import Row


def request(
    *texts: str,
    rows: int | None = None,
    route: str = "/predict",
    parts: tuple[tuple[int, int], ...] = (),
) -> dict[str, Any]:
    """The line that the server writes of a request."""
    count = len(texts) if rows is None else rows
    return line(Seen("id", "POST", route, 200, 0, 0.1, rows=count, texts=texts, parts=parts))


def write(path: Path, lines: Sequence[dict[str, Any] | str]) -> Path:
    whole = (one if isinstance(one, str) else json.dumps(one) for one in lines)
    path.write_text("".join(f"{one}\n" for one in whole), encoding="utf-8")
    return path


def test_every_line_of_a_servers_log_has_the_keys_it_is_known_by() -> None:
    assert set(request()) >= LOG_KEYS


@pytest.mark.parametrize("name", ["serve.log", "serve.log.1", "serve.jsonl", "serve", "log.gz"])
def test_texts_of_a_log_are_rows_whatever_the_file_is_called(name: str, tmp_path: Path) -> None:
    probe = request(route="/v2/health/ready")
    ready = {"serving": "http://127.0.0.1:8000", "models": ["a"], "router": 1}
    first = ready if name.endswith("1") else probe
    path = write(tmp_path / name, [first, request("a", "b"), probe, request("c\x1b[2J")])
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    asked = asked_rows(str(path))
    assert asked.read_from == "log"
    assert list(asked.rows) == [Row("a"), Row("b"), Row("c\x1b[2J")]


def test_a_log_without_texts_is_refused_and_says_how_to_get_one(tmp_path: Path) -> None:
    path = write(tmp_path / "serve.log", [request(rows=1)] * 3)
    with pytest.raises(InputError, match="serve --log-texts"):
        asked_rows(str(path))


def test_a_log_of_probes_alone_holds_no_rows(tmp_path: Path) -> None:
    asked = asked_rows(str(write(tmp_path / "serve.log", [request(route="/v2/health/live")])))
    assert (asked.read_from, list(asked.rows)) == ("log", [])


def test_requests_without_texts_are_left_out_and_remarked_on(tmp_path: Path) -> None:
    said: list[str] = []
    path = write(tmp_path / "serve.log", [request(rows=2), request("a")])
    assert list(asked_rows(str(path), remark=said.append).rows) == [Row("a")]
    assert said == ["1 request was left out: what was asked does not stand in the log"]


def test_pairs_and_choices_of_a_log_are_put_together_again(tmp_path: Path) -> None:
    texts = ("a", "b", "its pair", "c", "one", "two", "d", "its pair", "one", "two", "three")
    parts = ((0, 0), (1, 0), (0, 2), (1, 3))
    path = write(tmp_path / "serve.log", [request(*texts, rows=4, parts=parts)])
    assert list(asked_rows(str(path)).rows) == [
        Row("a"),
        Row("b", "its pair"),
        Row("c", None, ("one", "two")),
        Row("d", "its pair", ("one", "two", "three")),
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {"texts": "b"},
        {"texts": 7},
        {"rows": 2},
        {"rows": 10**12},
        {"parts": [[1, 0]]},
        {"parts": [[0, 10**12]]},
        {"parts": [[0, -1]]},
        {"parts": [["", ""]]},
        {"parts": 7},
        {"parts": []},
    ],
)
def test_a_line_that_no_server_wrote_is_told_by_line(odd: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "serve.log", [request("a"), {**request("b"), **odd}])
    with pytest.raises(DataError, match=r"serve\.log:2: not a line"):
        asked_rows(str(path), refuse=True)


def test_damaged_lines_of_a_log_are_told_by_line(tmp_path: Path) -> None:
    lines = [request("a"), {**request("b"), "texts": "b"}, '{"at": "torn', request(" ")]
    path = write(tmp_path / "serve.log", lines)
    good, odd, torn, empty = asked_rows(str(path)).rows
    assert good == Row("a")
    assert [str(one).split(": ")[0].rpartition(":")[2] for one in (odd, torn, empty)] == list("234")


def test_rows_are_read_as_predict_reads_them(tmp_path: Path) -> None:
    texts = write(tmp_path / "rows.csv", ["ticket;topic", "lost card;banking"])
    columns = Columns("ticket")
    asked = asked_rows(str(texts), columns)
    assert asked.read_from == "rows"
    assert list(asked.rows) == list(rows_to_answer(str(texts), columns)) == [Row("lost card")]
    pairs = write(tmp_path / "rows.jsonl", [{"text": "a", "text_pair": "b"}])
    assert list(asked_rows(str(pairs)).rows) == [Row("a", "b")]
    (tmp_path / "none.csv").touch()
    assert list(asked_rows(str(tmp_path / "none.csv")).rows) == []


def test_an_object_with_a_text_is_a_row_though_it_has_the_keys_of_a_log(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{**request("no"), "text": "yes"}])
    asked = asked_rows(str(path))
    assert (asked.read_from, list(asked.rows)) == ("rows", [Row("yes")])
