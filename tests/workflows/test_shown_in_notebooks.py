"""What a notebook shows of a bank and its results; answers as frames and data sets; the map."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from small_bank import TASKS, add

from expertbank import Answers, Bank
from expertbank.errors import InputError, NotFoundError
from expertbank.reports import notebook
from expertbank.reports.html import forgetting_page


class Read(HTMLParser):
    """Text and tags of a fragment, and the page in its frame."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.text, self.page = "", ""
        self.tags: list[str] = []
        self.feed(fragment)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.page = dict(attrs).get("srcdoc") or self.page

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def bank(
    backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bank]:
    folder = tmp_path_factory.mktemp("notebook")
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        for task in TASKS:
            add(bank, task, folder)
        bank.retrain_router()
        yield bank


def test_a_bank_shows_its_experts_and_what_to_do_next(bank: Bank) -> None:
    shown = Read(bank._repr_html_())
    for expert in bank.experts():
        assert expert.id in shown.text
        assert expert.digest in shown.text
    assert "expertbank forgetting-report" in shown.text


def test_a_report_shows_its_own_page_in_a_frame_without_scripts(bank: Bank) -> None:
    report = bank.forgetting_report(with_map=True)
    shown = Read(report._repr_html_())
    assert shown.tags == ["iframe"]
    assert shown.page == forgetting_page(report)
    assert "script" not in Read(shown.page).tags


def test_answers_show_as_a_table_and_go_on_as_frames_and_data_sets(bank: Bank) -> None:
    answers = bank.predict(["good film", "law tax no"])
    assert isinstance(answers, list)
    shown = Read(answers._repr_html_()).text
    assert all(one.task in shown and one.text in shown for one in answers)
    frame = answers.to_pandas()
    assert frame["label"].tolist() == [one.label for one in answers]
    again = bank.predict(frame.assign(text=["good film", "law tax no"]))
    assert [one.to_dict() for one in again] == [one.to_dict() for one in answers]
    rows = answers.to_dataset()
    assert rows["task"][:] == [one.task for one in answers]
    assert [json.loads(scores) for scores in rows["scores"]] == [dict(o.scores) for o in answers]
    assert len(Answers(bank.predictor().predict(["sky"])).to_pandas()) == 1
    assert len(Answers().to_pandas()) == len(Answers().to_dataset()) == 0


def test_a_router_shows_where_rows_of_each_task_go(bank: Bank) -> None:
    shown = Read(bank.retrain_router()._repr_html_()).text
    assert all(task in shown for task in TASKS)
    assert "lda" in shown


def test_what_comes_from_data_is_text_and_never_markup() -> None:
    shown = Read(notebook.table("<b>", ["<i>"], [["<script>alert()</script>"]], [("<u>", "&")]))
    assert not {"b", "i", "u", "script"} & set(shown.tags)
    assert "<script>alert()</script>" in shown.text
    many = notebook.table("t", ["n"], [[number] for number in range(notebook.MANY + 7)])
    assert "and 7 more" in many
    assert Read(notebook.framed("t", '"><script>')).tags == ["iframe"]


def test_the_map_names_every_task_and_says_in_words_which_lie_close(bank: Bank) -> None:
    found = bank.map()
    drawing = ElementTree.fromstring(found.svg)
    space = "{http://www.w3.org/2000/svg}"
    assert {text.text for text in drawing.iter(f"{space}text")} == set(TASKS)
    assert len(list(drawing.iter(f"{space}ellipse"))) == len(TASKS)
    described = drawing.find(f"{space}desc")
    assert described is not None
    assert described.text == found.closest
    page = forgetting_page(bank.forgetting_report(with_map=True))
    assert found.closest in page
    assert found.caption in Read(page).text
    assert "Where tasks lie" not in forgetting_page(bank.forgetting_report())


def test_rows_stand_on_the_map_and_unknown_ones_are_crosses_outside(bank: Bank) -> None:
    rows = [*(" ".join(topic) for _, topic in TASKS.values()), "0000 %%%% 9999 @@@@ 0000"]
    found, answers = bank.map(rows=rows), bank.predict(rows, abstain=True)
    assert [one.unknown for one in found.spots] == [bool(one.unknown) for one in answers]
    assert [one.task for one in found.spots] == [one.task for one in answers]
    drawing = ElementTree.fromstring(found.svg)
    crosses = len(drawing.findall(".//{*}path[@class='unknown']"))
    dots = len(drawing.findall(".//{*}circle[@class='row']"))
    assert (crosses, dots) == (sum(one.unknown for one in found.spots), len(rows) - crosses)
    assert f"Of {len(rows)} rows {crosses} are unknown" in found.placed
    assert found.placed in drawing.findtext("{*}desc", "")
    with pytest.raises(InputError, match="2,000 rows"):
        bank.map(rows=["again and again"] * 2001)
    with pytest.raises(InputError, match="2,000 rows"):
        bank.map(rows=[])


def test_a_map_is_of_the_tasks_that_are_named(bank: Bank) -> None:
    assert [one.task for one in bank.map(tasks=["laws", "films"]).clouds] == ["films", "laws"]
    with pytest.raises(NotFoundError, match="has no task cooking; it knows films, games, laws"):
        bank.map(tasks=["films", "cooking"])
    with pytest.raises(InputError, match="shows 2 to 60 tasks, and these are 1"):
        bank.map(tasks=["films"])
