"""Rows are the same from any format and order, and bad input is refused by file and line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expertbank.data import (
    Columns,
    TaskData,
    TaskSpec,
    find_rows,
    load_task,
    read_rows,
    rows_digest,
    task_spec,
)
from expertbank.errors import DataError, InputError, NotFoundError, SourceUnavailableError
from expertbank.kinds.labels import sorted_labels
from expertbank.records import Row

Values = dict[str, Any]
MINE = TaskSpec("mine")
TRICKY = ["None", "NA", "007", "nan", "true", "1e3"]


def _rows(number: int = 40) -> list[Values]:
    """Rows whose texts and labels are what careless readers spoil."""
    texts = ['says "so", he', "two\nlines", "  spaces ", "a\tb", "naïve ☃", "\u2028 odd", "0"]
    return [
        {
            "text": f"{texts[n % 7]} {n}",
            "text_pair": "" if n % 5 else f"p{n}",
            "label": TRICKY[n % 6],
        }
        for n in range(number)
    ]


def _write(path: Path, rows: Sequence[Values]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(table.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


def _load(path: Path, spec: TaskSpec = MINE, **options: Any) -> TaskData:
    data = load_task(spec, str(path), **options)
    assert data.counts["read"] == sum(data.counts.values()) - data.counts["read"]
    return data


def _is_refused(path: Path, message: str, spec: TaskSpec = MINE) -> None:
    """``message`` is a pattern for what follows the folder, from the file's name on."""
    with pytest.raises(DataError, match=message) as caught:
        load_task(spec, str(path))
    assert str(caught.value).startswith(str(path))
    assert caught.value.exit_code == 2


def test_all_formats_and_any_order_give_identical_data(tmp_path: Path) -> None:
    rows = _rows()
    first = _load(_write(tmp_path / "a.csv", rows), limit=20, eval_limit=5, seed=3)
    assert set(first.labels) == set(TRICKY)
    for name in ("b.tsv", "c.jsonl", "d.parquet"):
        other = _load(_write(tmp_path / name, rows[::-1]), limit=20, eval_limit=5, seed=3)
        assert (other.train, other.validation) == (first.train, first.validation)
        assert other.digests == first.digests
        assert other.counts == first.counts


def test_numbers_and_truth_values_read_as_python_writes_them(tmp_path: Path) -> None:
    rows: list[Values] = [{"text": f"t{n}", "label": n % 2 == 0, "n": n} for n in range(10)]
    for name in ("a.jsonl", "b.parquet", "c.csv"):
        path = _write(tmp_path / name, rows)
        assert {row.label for row in read_rows(MINE, str(path))} == {"True", "False"}
        spec = task_spec("mine", text_column="n")
        assert read_rows(spec, str(path))[3].text == "3"


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    plain = tmp_path / "a.csv"
    plain.write_bytes(b"text,label\nx,0\ny,1\nz,0\nw,1\n")
    marked = tmp_path / "b.csv"
    marked.write_bytes(b"\xef\xbb\xbftext,label\r\nx,0\r\ny,1\r\nz,0\r\nw,1\r\n")
    lines = tmp_path / "c.jsonl"
    lines.write_bytes(
        b"\xef\xbb\xbf"
        + b"\r\n".join(
            json.dumps({"text": t, "label": n}).encode()
            for t, n in zip("xyzw", "0101", strict=True)
        )
    )
    assert (
        read_rows(MINE, str(plain)) == read_rows(MINE, str(marked)) == read_rows(MINE, str(lines))
    )


def test_no_copy_of_the_rows_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    cache, temporary = tmp_path / "cache", tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    path = _write(tmp_path / "a.parquet", _rows())
    before = sorted(tmp_path.rglob("*"))
    _load(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_field_longer_than_the_csv_limit_is_read_and_the_limit_kept(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    rows = [{"text": f"{n} " + "long " * 60_000, "label": str(n % 2)} for n in range(4)]
    for name in ("a.csv", "a.jsonl"):
        found = read_rows(MINE, str(_write(tmp_path / name, rows)))
        assert [row.text for row in found] == [row["text"] for row in rows]
    assert csv.field_size_limit() == limit


def test_splits_go_by_file_name_and_a_test_set_is_left_alone(tmp_path: Path) -> None:
    rows = _rows(60)
    _write(tmp_path / "train-0.jsonl", rows[:20])
    _write(tmp_path / "train-1.jsonl", rows[20:40])
    _write(tmp_path / "test.jsonl", rows[50:])
    (tmp_path / "README.md").write_text("not data")
    alone = _load(tmp_path)
    assert alone.counts["read"] == 40
    _write(tmp_path / "dev.jsonl", rows[40:50])
    both = _load(tmp_path)
    assert (both.counts["train"], both.counts["validation"]) == (40, 10)


def test_unclear_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no data"):
        load_task(MINE, str(tmp_path))
    _write(tmp_path / "a.csv", _rows())
    assert _load(tmp_path).counts["read"] == 40
    _write(tmp_path / "b.csv", _rows())
    with pytest.raises(InputError, match=r"cannot tell which of a\.csv, b\.csv is for training"):
        load_task(MINE, str(tmp_path))
    _write(tmp_path / "train.csv", _rows())
    _write(tmp_path / "train.jsonl", _rows())
    with pytest.raises(InputError, match="one split in two formats"):
        load_task(MINE, str(tmp_path))
    (tmp_path / "a.docx").write_bytes(b"PK")
    with pytest.raises(InputError, match="unknown file type"):
        load_task(MINE, str(tmp_path / "a.docx"))
    with pytest.raises(InputError, match="there is no file or folder"):
        load_task(MINE, str(tmp_path / "gone.csv"))


@pytest.mark.parametrize("nested", [False, True])
def test_folders_can_be_the_labels(tmp_path: Path, nested: bool) -> None:
    for part in ("train", "validation") if nested else ("",):
        for label in ("spam", "ham"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for n in range(5):
                (folder / f"{n}.txt").write_text(f"\n{part} {label} {n}\r\nmore\n", newline="")
    data = _load(tmp_path)
    assert data.labels == ("ham", "spam")
    assert data.counts["train"] == (10 if nested else 8)
    assert data.train[0].text.endswith("\nmore")
    assert data.train[0].origin.endswith(".txt:1")
    bad = next(tmp_path.rglob("3.txt"))
    bad.write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"3\.txt:1: not valid UTF-8"):
        load_task(MINE, str(tmp_path))
    bad.write_text("  \n")
    with pytest.raises(DataError, match=r"3\.txt:1: the file holds no text"):
        load_task(MINE, str(tmp_path))


def test_duplicates_and_leaks_are_dropped_and_counted(tmp_path: Path) -> None:
    train = [{"text": f"t{n}", "label": str(n % 2)} for n in range(20)]
    leak = {"text": " HELD  0", "label": "1"}
    _write(tmp_path / "train.csv", [*train, train[0], leak])
    held = [{"text": f"held {n}", "label": str(n % 2)} for n in range(4)]
    _write(tmp_path / "validation.csv", [*held, held[1]])
    data = _load(tmp_path)
    assert data.counts == {
        "read": 27, "dropped_unlabelled": 0, "duplicates": 2, "leaked": 1, "over_limit": 0,
        "train": 20, "validation": 4,
    }  # fmt: skip
    _write(tmp_path / "train.csv", held)
    with pytest.raises(DataError, match="every training row also stands in validation"):
        load_task(MINE, str(tmp_path))


def test_unlabelled_rows_are_dropped_only_where_the_task_says_so(tmp_path: Path) -> None:
    rows: list[Values] = [{"text": f"t{n}", "label": str(n % 2)} for n in range(10)]
    rows.insert(4, {"text": "no key"})
    rows.insert(5, {"text": "null", "label": None})
    rows.insert(6, {"text": "empty", "label": ""})
    rows.insert(7, {"text": "minus", "label": -1})
    path = _write(tmp_path / "a.jsonl", rows)
    _is_refused(path, r"a\.jsonl:5: no label: column 'label' is empty")
    data = _load(path, TaskSpec("mine", drop_labels=(None, "-1")))
    assert data.counts["dropped_unlabelled"] == 4
    assert data.counts["train"] + data.counts["validation"] == 10


def test_a_stored_spec_finds_the_same_rows_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.csv", _rows())
    monkeypatch.chdir(tmp_path)
    data = load_task(MINE, "a.csv")
    assert data.spec.columns.text == "text"
    assert data.spec.labels == data.labels
    stored = TaskSpec.from_dict(json.loads(json.dumps(data.spec.to_dict())))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    wanted = [row.digest for row in data.validation]
    found = find_rows(stored, data.source, [*wanted, "gone"])
    assert [found[digest] for digest in wanted] == list(data.validation)
    assert "gone" not in found
    path.unlink()
    with pytest.raises(InputError, match="there is no file"):
        find_rows(stored, data.source, wanted)


def test_versions_are_measured_on_the_same_rows_whatever_the_training_seed(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", _rows(80))
    one, two = (
        _load(path, seed=1, limit=30, eval_limit=8),
        _load(path, seed=2, limit=30, eval_limit=8),
    )
    assert one.validation == two.validation
    assert one.train != two.train
    assert one.digests["validation"] == rows_digest(two.validation[::-1])


def test_columns_are_guessed_from_their_names(tmp_path: Path) -> None:
    cases = [
        ("text,label", ("text", None, "label")),
        ("Sentence,id,Target", ("Sentence", None, "Target")),
        ("premise,hypothesis,label", ("premise", "hypothesis", "label")),
        ("question,passage,answer", ("question", "passage", "answer")),
        ("question,sentence,label", ("question", "sentence", "label")),
        ("label,sentence2,sentence1", ("sentence1", "sentence2", "label")),
        ("context,question,class", ("question", "context", "class")),
    ]
    for header, expected in cases:
        rows = [dict.fromkeys(header.split(","), f"v{n}") for n in range(12)]
        for n, row in enumerate(rows):
            row[expected[2]] = str(n % 2)
        columns = _load(_write(tmp_path / "a.csv", rows)).spec.columns
        assert (columns.text, columns.text_pair, columns.label) == expected
    spec = task_spec("mine", text_column="premise")
    _write(tmp_path / "a.csv", [{"premise": f"a{n}", "hypothesis": "b", "label": n % 2}
                                for n in range(9)])  # fmt: skip
    assert _load(tmp_path / "a.csv", spec).train[0].text_pair is None


def test_missing_columns_list_those_that_are_there(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", [{"foo": "a", "bar": "b"}])
    _is_refused(
        path,
        r"a\.csv:1: no column with a known name for the text; columns found: foo, bar; "
        r"name it with --text-column",
    )
    _is_refused(path, "known name for the label.*--label-column", task_spec("m", text_column="foo"))
    _is_refused(path, "no column 'question' for the text", task_spec("boolq"))
    spec = task_spec("m", text_column="foo", label_column="bar", pair_column="baz")
    _is_refused(path, "no column 'baz' for the pair.*--pair-column", spec)


def test_the_catalogs_columns_hold_for_the_users_own_copy(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "passage": "T -- p", "answer": str(n % 2 > 0)} for n in range(10)]
    data = _load(_write(tmp_path / "a.csv", rows), task_spec("boolq"))
    assert data.labels == ("False", "True")
    # Only the packaged copy has titles; the same sign in another copy is the passage's own.
    assert data.train[0].text_pair == "T -- p"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r":1: the file holds no rows"),
        ("a.csv", b"text,label\n", r":1: the file holds no rows"),
        ("a.jsonl", b"\n\n", r":1: the file holds no rows"),
        ("a.csv", b"text,label\na,0\ncaf\xe9,1\n", r":3: not valid UTF-8"),
        ("a.csv", b"\xef\xbb\xbftext,label\na,0\n\xff,1\n", r":3: not valid UTF-8"),
        ("a.csv", "text,label\na,0\n".encode("utf-16-le"), r":1: NUL byte"),
        ("a.jsonl", b'{"text": "a", "label": "0"}\n{"text": "\0"}\n', r":2: NUL byte"),
        ("a.csv", b"text,label\na,0\nb\n", r":3: 1 cells where the header has 2"),
        ("a.csv", b"text,label\na,0\n\nb,c,1\n", r":4: 3 cells where the header has 2"),
        ("a.csv", b'text,label\n"a\nb",0\nc,d,1\n', r":4: 3 cells"),
        ("a.csv", b'text,label\na,0\n"open,1\nb,0\n', r":3: malformed row"),
        ("a.tsv", b'text\tlabel\na\t0\n"b" c\t1\n', r":3: malformed row"),
        ("a.csv", b"text,text,label\na,b,0\n", r":1: columns are repeated: \['text'\]"),
        ("a.csv", b'text,label\n"x\ny",0\n  ,1\n', r":4: the text .* is empty"),
        ("a.csv", b"text,label\na,0\nb,\n", r":3: no label"),
        ("a.csv", b"text,label\na,0\nb,0\n", r":1: all training rows have the label '0'"),
        ("a.csv", b"text,label\na,0\nb,1\n", r":1: 2 different rows with 2 labels cannot be split"),
        ("a.jsonl", b'{"text": "a", "label": "0"}\n[1, 2]\n', r":2: expected a JSON object"),
        ("a.jsonl", b'{"text": "a", "label": "0"}\n\n{"text": \n', r":3: not valid JSON"),
        ("a.jsonl", b"[" * 200_000, r":1: not valid JSON"),
        ("a.jsonl", b'{"text": null, "label": "0"}\n', r":1: the text .* is empty"),
        ("a.jsonl", b'{"text": ["a"], "label": "0"}\n', r":1: column 'text' holds list"),
        ("a.jsonl", b'{"text": "a", "label": {"b": 1}}\n', r":1: column 'label' holds dict"),
        ("a.jsonl", b'{"text": "\\ud800", "label": "0"}\n', r":1: .*half a surrogate pair"),
        ("a.jsonl", b'{"text": "\\u0000", "label": "0"}\n', r":1: .*holds a NUL"),
        ("a.jsonl", b'{"text": "a", "label": NaN}\n', r":1: no label"),
        ("a.parquet", b"", r":1: not readable as Parquet"),
        ("a.parquet", b"PAR1 not really", r":1: not readable as Parquet"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_file_and_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    _is_refused(path, rf"{name}{message}")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.binary(max_size=60)
    | st.text(alphabet='text,label"\n\t{}[]:01\r\0é ', max_size=60).map(str.encode),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".csv.gz", ".parquet"]),
)
def test_no_bytes_at_all_end_in_anything_but_data_or_a_clear_refusal(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"text,label\n" + content if suffix == ".csv" else content)
    try:
        load_task(MINE, str(path))
    except DataError as error:
        assert re.match(r":\d+: ", str(error)[len(str(path)) :])  # noqa: PT017


def test_an_empty_parquet_file_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"text": pyarrow.array([], pyarrow.string())})
    pytest.importorskip("pyarrow.parquet").write_table(table, path)
    _is_refused(path, r"a\.parquet:1: the file holds no rows")


def test_a_validation_label_never_trained_is_named_with_its_line(tmp_path: Path) -> None:
    _write(tmp_path / "train.csv", [{"text": f"t{n}", "label": f"l{n % 3}"} for n in range(9)])
    held = [{"text": "a", "label": "l1"}, {"text": "b", "label": "new"}]
    _write(tmp_path / "validation.csv", held)
    with pytest.raises(DataError, match=r"validation\.csv:3: validation label 'new' .*'l0', 'l1'"):
        load_task(MINE, str(tmp_path))


def test_a_label_outside_a_fixed_list_is_named_with_its_line(tmp_path: Path) -> None:
    spec = TaskSpec("mine", labels=("yes", "no"), label_names=(("1", "yes"), ("0", "no")))
    rows = [{"text": f"t{n}", "label": ["1", "no"][n % 2]} for n in range(10)]
    data = _load(_write(tmp_path / "a.csv", rows), spec)
    assert data.labels == ("yes", "no")
    assert {row.label for row in data.train} == {"yes", "no"}
    rows[6]["label"] = "yess"
    _is_refused(
        _write(tmp_path / "a.csv", rows), r"a\.csv:8: unknown label 'yess'.*mean 'yes'", spec
    )


def test_labels_stand_in_natural_order() -> None:
    assert sorted_labels({"10", "9", "-1", "0"}) == ["-1", "0", "9", "10"]
    assert sorted_labels({"class10", "class9", "Alpha"}) == ["Alpha", "class9", "class10"]
    assert sorted_labels({"7", "007", "x"}) == ["007", "7", "x"]


@pytest.mark.parametrize(
    ("values", "columns", "labels"),
    [
        ({"q": "c", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "key": "B"},
         ["choices"], ()),
        ({"q": "c", "choices": ["x", "y"], "key": 2}, ["choices"], ("1", "2")),
        ({"q": "c", "one": "x", "two": "y", "key": "2"}, ["one", "two"], ("1", "2")),
        ({"q": "c", "choices": ["x", "y"], "key": "y"}, ["choices"], ()),
    ],
)  # fmt: skip
def test_all_shapes_of_choices_give_one_row(
    tmp_path: Path, values: Values, columns: list[str], labels: tuple[str, ...]
) -> None:
    path = _write(tmp_path / "a.jsonl", [values])
    spec = TaskSpec("mine", labels=labels).with_columns(Columns("q", choices=columns, label="key"))
    assert read_rows(spec, str(path)) == [Row("c", choices=("x", "y"), label="1")]
    _is_refused(
        _write(path, [{**values, "key": "Q"}]), r"a\.jsonl:1: label 'Q' names none of", spec
    )


def test_the_sources_that_failed_are_all_named_with_the_ways_out() -> None:
    spec = TaskSpec.from_dict(
        {
            "name": "mine",
            "sources": [
                {"name": "one", "ref": "pkg:surely_not_installed/x.csv"},
                {"name": "two", "ref": "pkg:json/no-such-file.csv"},
            ],
        }
    )
    with pytest.raises(SourceUnavailableError) as caught:
        load_task(spec)
    message = str(caught.value)
    assert "one: package surely_not_installed is not installed" in message
    assert "two: the installed package json has no no-such-file.csv" in message
    assert "pip install 'expertbank[offline]'" in message
    assert "--data FILE" in message
    assert caught.value.exit_code == 1


def test_a_task_without_data_says_how_to_give_some() -> None:
    with pytest.raises(NotFoundError, match=r"did you mean boolq.*--data"):
        load_task(task_spec("bolq"))


def test_a_package_is_read_without_being_imported_and_never_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "datapack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    _write(package / "a.csv", _rows())
    _write(tmp_path / "site" / "outside.csv", _rows())
    monkeypatch.syspath_prepend(tmp_path / "site")
    data = load_task(MINE, "pkg:datapack/a.csv")
    assert data.counts["read"] == 40
    assert data.source == "pkg:datapack/a.csv"
    assert data.train[0].origin.startswith("pkg:datapack/a.csv:")
    (package / "link.csv").symlink_to(tmp_path / "site" / "outside.csv")
    with pytest.raises(InputError, match="leads out of its package"):
        load_task(MINE, "pkg:datapack/link.csv")
