"""Whatever data is called, Markdown shows it: read back with a CommonMark parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from expertbank.kinds.labels import joined, label_text
from expertbank.reports.adapters_readme import adapters_readme
from expertbank.reports.bundle_readme import bundle_readme
from expertbank.reports.escaping import code, plain, row
from expertbank.reports.forgetting import ForgettingReport
from expertbank.reports.html import forgetting_page
from expertbank.reports.markdown import forgetting_markdown
from expertbank.reports.peft_readme import peft_readme
from expertbank.texts import printable

PARSER = MarkdownIt("commonmark").enable("table")
ODD = (
    "a|b",
    "a\\|b",
    "two\nlines",
    "two\r\nlines",
    "`code`",
    "<script>alert(1)</script>",
    "# heading",
    "[x](y)",
    "*bold* _it_",
    "a & b &amp; c",
    "1. first",
    "---",
    "www.example.com http://example.com a@b.cd",
    "\u202eturned",
    "\x1b[31m",
    "tab\tbed",
    "\u2028",
    "$x$",
    "\\",
)


def shown(token: Any) -> str:
    """The text of an inline token; markup in it is a failure."""
    kinds = {child.type for child in token.children}
    assert kinds <= {"text", "text_special", "code_inline"}, kinds
    return "".join(child.content for child in token.children)


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every table in Markdown."""
    found: list[list[list[str]]] = []
    inside = False
    for token in PARSER.parse(text):
        if token.type in {"table_open", "table_close"}:
            inside = not inside
            found += [[]] if inside else []
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and inside:
            found[-1][-1].append(shown(token))
    return found


@given(st.lists(st.text(), min_size=1, max_size=4))
@example(list(ODD))
def test_cells_are_read_back_as_they_are(texts: list[str]) -> None:
    head = [row(*("x" for _ in texts)), row(*("---" for _ in texts))]
    ((_, cells),) = tables("\n".join([*head, row(*map(plain, texts))]) + "\n")
    assert cells == [printable(" ".join(text.split())) for text in texts]


@given(st.text(min_size=1))
@example("a``b`")
def test_code_is_read_back_as_it_is(text: str) -> None:
    line = printable(" ".join(text.split()))
    if not line:
        return
    (inline,) = [token for token in PARSER.parse(f"x {code(text)} y") if token.type == "inline"]
    assert shown(inline) == f"x {line} y"


def entry(labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id": "odd@1",
        "task": "odd",
        "folder": "odd",
        "kind": "classification",
        "labels": list(labels),
        "rank": 4,
        "digest": "0" * 64,
        "pooling": "mean",
        "scaled": True,
        "writing": None,
        "dense": None,
        "metrics": {"accuracy": 0.5, "n": 10, "majority": 0.5},
    }


def manifest(*labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "experts": [entry(each) for each in labels],
        "backbone": {
            "reference": "odd `name`|\n# x",
            "digest": "1" * 64,
            "folder": None,
            "revision": None,
        },
        "loaded_as": {"class": "BertModel", "causal": False, "inner": "", "gguf": None},
        "router": {"version": 1, "kind": "lda", "masked": False},
        "feature_spec": {"max_length": 8, "dtype": "float32"},
        "made_with": {"expertbank": "0.1.0"},
    }


def test_the_tables_of_exports_hold_one_line_for_each_expert_whatever_labels_are_called() -> None:
    content = manifest(ODD, ("yes", "no"), ())
    texts = ((bundle_readme(content), 1, ""), (adapters_readme(content, "as they are"), 3, "-"))
    for text, place, empty in texts:
        (table,) = tables(text)
        assert [len(line) for line in table] == [5] * 4
        told = [line[place] for line in table[1:]]
        assert told == [printable(joined(ODD)), "yes, no", empty]
        assert "<script>" not in text.replace("\\<script", "")


def test_a_folder_of_a_strange_name_is_code_that_runs() -> None:
    content = manifest(("yes", "no"))
    text = peft_readme(entry(("yes", "no")), content)
    (source,) = [token.content for token in PARSER.parse(text) if token.type == "fence"]
    compile(source, "README.md", "exec")
    assert json.dumps(content["backbone"]["reference"]) in source


def test_why_rows_were_not_run_again_stands_in_markdown_and_page() -> None:
    why = "there is no file </td><script>*x*|.csv"
    found = {
        "rows": 0,
        "of": 4,
        "unverifiable": 4,
        "reason": why,
        "max_logit_difference": None,
        "same_environment": True,
        "within_tolerance": [],
    }
    report = ForgettingReport(None, (), (), (), verification={"odd": found})
    (*_, item) = [t for t in PARSER.parse(forgetting_markdown(report)) if t.type == "inline"]
    assert shown(item) == f"odd: {why}"
    page = forgetting_page(report)
    assert "&lt;/td&gt;&lt;script&gt;*x*|.csv" in page
    assert "nothing compared" in page


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("sports", "sports"),
        ("True", "True"),
        ("two words", "two words"),
        ("été", "été"),
        ("unknown", '"unknown"'),
        ("Unknown", '"Unknown"'),
        ("(unknown)", '"(unknown)"'),
        ("(none)", '"(none)"'),
        ("-", '"-"'),
        ("", '""'),
        ("  ", '"  "'),
        ("null", '"null"'),
        ('"unknown"', '"\\"unknown\\""'),
        ("a\nb", '"a\\nb"'),
        ("\u202ex", '"\\u202ex"'),
        ("\x1b[2J", '"\\x1b[2J"'),
    ],
)
def test_a_label_that_could_be_taken_for_something_else_is_quoted(label: str, text: str) -> None:
    assert label_text(label) == text


@given(st.lists(st.text(), unique=True, min_size=2, max_size=2))
@example(["unknown", '"unknown"'])
@example(["\u202e", "\\u202e"])
def test_two_labels_are_never_shown_alike(pair: list[str]) -> None:
    one, other = pair
    assert label_text(one) != label_text(other)
    assert "(unknown)" not in map(label_text, pair)


def test_a_set_of_labels_is_never_taken_for_another() -> None:
    assert joined(("a", "b")) == "a, b"
    assert joined(("a, b",)) == '"a, b"'
    assert joined(('"a, b',)) == '"\\"a, b"'
