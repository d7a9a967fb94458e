"""Rows to predict come in many forms, one way in reads them all, and a slip is not passed over."""

from __future__ import annotations

import sqlite3
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from places import working_in

from expertbank.data import as_rows, rows_to_answer
from expertbank.errors import DataError, InputError
from expertbank.records import Row


def _parse(*lines: str | bytes) -> list[Row]:
    found = []
    with TemporaryDirectory() as folder, working_in(Path(folder)):
        whole = (line if isinstance(line, bytes) else line.encode() for line in lines)
        Path("rows.jsonl").write_bytes(b"".join(line.removesuffix(b"\n") + b"\n" for line in whole))
        for row in rows_to_answer("rows.jsonl"):
            if isinstance(row, InputError):
                raise row
            found.append(row)
    return found


def test_rows_are_read_from_text_and_bytes() -> None:
    assert _parse(
        '\ufeff{"text": "a"}\n',
        "\n",
        '{"text": "b", "text_pair": "c", "label": "ignored"}',
        b'{"text": "d", "text_pair": "", "choices": ["x", "y"]}\r\n',
        b'{"text": 7, "choices": null}',
    ) == [Row("a"), Row("b", "c"), Row("d", choices=("x", "y")), Row("7")]


def test_rows_know_their_line() -> None:
    assert [row.origin for row in _parse('{"text": "a"}', "", '{"text": "b"}')] == [
        "rows.jsonl:1",
        "rows.jsonl:3",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "not valid JSON"),
        ("[1]", "expected a JSON object"),
        ('"text"', "expected a JSON object"),
        ("{}", "no key 'text'; keys found: none"),
        ('{"sentence": "a"}', "no key 'text'; keys found: sentence"),
        ('{"text": "  "}', "is empty"),
        ('{"text": null}', "is empty"),
        ('{"text": ["a"]}', "holds list"),
        ('{"text": "a", "textpair": "b"}', "did you mean 'text_pair'"),
        ('{"text": "a", "Choices": ["b", "c"]}', "did you mean 'choices'"),
        ('{"text": "a", "choices": "b"}', "must hold a list"),
        ('{"text": "a", "choices": []}', "at least two choices"),
        ('{"text": "a", "choices": ["b", ""]}', "none of them empty"),
        ('{"text": "a", "text_pair": {}}', "holds dict"),
        (b'{"text": "caf\xe9"}', "not valid UTF-8"),
        (b'{"text": "\0"}', "NUL byte"),
        ('{"text": "\\ud83d"}', "half a surrogate pair"),
    ],
)
def test_malformed_rows_are_refused_by_line(line: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"^rows\.jsonl:2: .*{message}"):
        _parse('{"text": "fine"}', line)


ONE = [Row("sky")]
PAIR = [Row("sky", "blue")]
TWO = [Row("sky"), Row("blue")]
CHOICES = [Row("sky", None, ("blue", "red"))]


def frame(**columns: list[Any]) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns)


def table(**columns: list[Any]) -> Any:
    return pytest.importorskip("datasets").Dataset.from_dict(columns)


def series(*values: Any, **options: Any) -> Any:
    return pytest.importorskip("pandas").Series(list(values), **options)


def sql_row() -> Any:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    return connection.execute("SELECT 'sky' AS text, 'blue' AS text_pair").fetchone()


FORMS: dict[str, tuple[Any, list[Row]]] = {
    "one text": ("sky", ONE),
    "one row": (Row("sky", "blue", label="yes"), PAIR),
    "one mapping": ({"text": "sky", "text_pair": "blue", "label": "yes", "id": 7}, PAIR),
    "another mapping": (UserDict(text="sky"), ONE),
    "choices": ({"text": "sky", "choices": ("blue", "red")}, CHOICES),
    "choices of numpy": ({"text": "sky", "choices": np.array(["blue", "red"])}, CHOICES),
    "choices in a row": (Row("sky", "", ("blue", "red")), CHOICES),
    "a list": (["sky", {"text": "blue"}], TWO),
    "a tuple": (("sky", Row("blue")), TWO),
    "keys": ({"sky": 1, "blue": 2}.keys(), TWO),
    "a generator": ((text for text in ("sky", "blue")), TWO),
    "a map": (map(str.lower, ("SKY", "BLUE")), TWO),
    "no rows": ([], []),
    "objects of numpy": (np.array(["sky", "blue"], dtype=object), TWO),
    "texts of numpy": (np.array(["sky", "blue"]), TWO),
    "a row of a database": ([sql_row()], PAIR),
    "a blank pair": ({"text": "sky", "text_pair": " "}, ONE),
    "a pair that is NaN": ({"text": "sky", "text_pair": float("nan")}, ONE),
    "a pair that is NaN of numpy": ({"text": "sky", "text_pair": np.float32("nan")}, ONE),
    "choices that are NaN": ({"text": "sky", "choices": float("nan")}, ONE),
    "a number as text": ({"text": 7}, [Row("7")]),
}

TABLES: dict[str, tuple[Any, list[Row]]] = {
    "a frame": (
        lambda: frame(text=["sky", "blue"], text_pair=["a", None], id=[1, 2]),
        [Row("sky", "a"), Row("blue")],
    ),
    "a frame with NaN": (
        lambda: frame(text=["sky", "blue"], text_pair=[float("nan"), "a"]),
        [Row("sky"), Row("blue", "a")],
    ),
    "a frame with NA": (
        lambda: frame(text=series("sky", "blue"), text_pair=series(None, "a", dtype="string")),
        [Row("sky"), Row("blue", "a")],
    ),
    "a frame of choices": (
        lambda: frame(text=["sky", "is"], choices=[np.array(["blue", "red"]), None]),
        [*CHOICES, Row("is")],
    ),
    "a frame of numbers": (lambda: frame(text=[1, 2]), [Row("1"), Row("2")]),
    "an empty frame": (lambda: frame(text=[]), []),
    "a frame row by row": (
        lambda: [row for _, row in frame(text=["sky"], text_pair=["blue"]).iterrows()],
        PAIR,
    ),
    "one row of a frame": (lambda: frame(text=["sky"], text_pair=["blue"]).iloc[0], PAIR),
    "a series": (lambda: series("sky", "blue"), TWO),
    "a column of strings": (lambda: series("sky", "blue", dtype="string"), TWO),
    "an index": (lambda: pytest.importorskip("pandas").Index(["sky", "blue"]), TWO),
    "records": (lambda: frame(text=["sky", "blue"]).to_dict("records"), TWO),
    "a data set": (lambda: table(text=["sky", "blue"], label=[0, 1]), TWO),
    "a data set of pairs": (lambda: table(text=["sky"], text_pair=["blue"]), PAIR),
    "a column of it": (lambda: table(text=["sky", "blue"])["text"], TWO),
    "a stream of it": (lambda: table(text=["sky", "blue"]).to_iterable_dataset(), TWO),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_rows_is_read(form: str) -> None:
    given, expected = FORMS[form]
    assert [bare(row) for row in as_rows(given)] == expected


@pytest.mark.parametrize("form", TABLES)
def test_every_kind_of_table_is_read(form: str) -> None:
    make, expected = TABLES[form]
    assert [bare(row) for row in as_rows(make())] == expected


def bare(row: Row | InputError) -> Row:
    assert isinstance(row, Row), row
    assert type(row.text) is str
    return Row(row.text, row.text_pair, row.choices)


REFUSED: dict[str, tuple[Any, str]] = {
    "bytes": (b"sky", "given as bytes; expected a text, a mapping with 'text', or a Row"),
    "nothing": (None, "given as NoneType"),
    "a number": (3, "given as int"),
    "numbers of numpy": (np.zeros(3), r"given as ndarray of shape \(3,\) and type float64"),
    "a matrix of texts": (np.array([["a", "b"]]), r"shape \(1, 2\)"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_holds_no_rows_is_refused_with_what_came(form: str) -> None:
    given, message = REFUSED[form]
    with pytest.raises(InputError, match=message):
        as_rows(given)


def test_a_table_without_text_is_refused_before_a_row_is_read() -> None:
    with pytest.raises(InputError, match=r"the table: no key 'text'; keys found: sentence"):
        as_rows(frame(sentence=["a"]))
    with pytest.raises(InputError, match=r"the data set: unknown key 'texts'; did you mean 'text'"):
        as_rows(table(texts=["a"]))


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "a mapping without text": ({"sentence": "a"}, "row 0: no key 'text'; keys found: sentence"),
    "splits": ({"train": [], "test": []}, "row 0: no key 'text'; keys found: train, test"),
    "columns as lists": ({"text": ["a", "b"]}, "row 0: column 'text' holds list"),
    "a slip": ({"text": "a", "textpair": "b"}, "did you mean 'text_pair'"),
    "one choice as text": ({"text": "a", "choices": "abc"}, "'choices' must hold a list"),
    "one choice": ({"text": "a", "choices": ["b"]}, "at least two choices"),
    "choices of a row": (Row("a", choices="abc"), "'choices' must hold a list"),  # type: ignore[arg-type]  # what is wrong
    "blank": (" ", "row 0: the text .* is empty"),
    "a blank row": (Row(" ", origin="f:3"), "f:3: the text .* is empty"),
    "bytes as text": ({"text": b"a"}, "holds bytes"),
    "an array as text": ({"text": np.array(["a"])}, "holds ndarray"),
    "no text": ({"text": float("nan")}, "is empty"),
    "half a pair": ("\ud83d", "half a surrogate pair"),
    "nothing": ([None], "row 0: expected a text, a mapping with 'text', or a Row; got NoneType"),
    "a number": ([3], "got int"),
    "lists": ([["a", "b"]], "got list"),
    "bytes": ([b"a"], "got bytes"),
}


@pytest.mark.parametrize("form", BAD_ROWS)
def test_a_bad_row_is_named_with_what_came(form: str) -> None:
    given, message = BAD_ROWS[form]
    (found,) = as_rows(given)
    assert isinstance(found, InputError)
    with pytest.raises(InputError, match=message):
        raise found


def test_a_key_of_answers_is_no_slip() -> None:
    assert as_rows({"text": "a", "choice": 1}) == [Row("a")]


def test_a_stream_is_read_only_as_far_as_it_is_asked() -> None:
    read = []

    def stream() -> Iterator[str]:
        for number in range(5):
            read.append(number)
            yield f"text {number}"

    rows = as_rows(stream())
    assert read == []
    assert isinstance(rows, Iterator)
    assert next(rows) == Row("text 0")
    assert read == [0]
