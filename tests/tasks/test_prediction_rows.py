"""Rows to predict come as JSON lines, and a slip is never passed over."""

from __future__ import annotations

import pytest

from expertbank.errors import DataError
from expertbank.records import Row
from expertbank.tasks import parse_prediction_rows


def _parse(*lines: str | bytes) -> list[Row]:
    return list(parse_prediction_rows(lines, "rows.jsonl"))


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
