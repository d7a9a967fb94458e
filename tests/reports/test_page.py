"""The page: complete, escaped, reproducible, readable, and silent in a real browser."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pages import CHROMIUM, Page
from sample_report import HOSTILE, NAMES, sample_report

from expertbank.reports.forgetting import ForgettingReport
from expertbank.reports.html import forgetting_page
from expertbank.reports.markdown import forgetting_markdown
from expertbank.reports.words import summary


@pytest.fixture(scope="module")
def report() -> ForgettingReport:
    return sample_report()


@pytest.fixture(scope="module")
def hostile() -> ForgettingReport:
    return sample_report((HOSTILE, "plain", "x" * 80, "values"))


def test_equal_reports_give_equal_bytes_but_for_the_moment_the_caller_states(report) -> None:
    assert forgetting_page(report) == forgetting_page(sample_report())
    stamped = forgetting_page(report, made_at="2026-01-01")
    assert stamped.replace(" Made 2026-01-01.", "") == forgetting_page(report)
    assert forgetting_markdown(report) == forgetting_markdown(sample_report())


def test_nothing_is_loaded_and_nothing_runs(report) -> None:
    text = forgetting_page(report)
    page = Page(text)
    assert {"script", "link", "img", "iframe", "object", "base"}.isdisjoint(
        name for name, _ in page.elements
    )
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"""(?:src|href)=["'](?!#)""", text)
    assert not any(name.startswith("on") for _, given in page.elements for name in given)
    (policy,) = [m for m in page.all("meta") if m.get("http-equiv")]
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_every_figure_stands_in_the_page(report) -> None:
    page = Page(forgetting_page(report))
    assert page.open == []
    for task in report.tasks:
        assert task.expert in page.text
        for figure in (task.at_add, task.oracle, task.routed_at_add, task.routed):
            assert f"{figure:.3f}" in page.text
    for row in report.matrix:
        for value in row:
            assert value is None or f"{value:.3f}" in page.text
    assert report.lineage is not None
    digests = {e.digest for e in report.lineage.experts} | {
        r.digest for r in report.lineage.routers
    }
    assert all(digest in page.text for digest in {*digests, report.lineage.backbone_digest})
    assert summary(report) in page.text
    assert {"lost", "inconclusive", "preserved", "identical"} == {
        task.verdict_routed for task in report.tasks
    }


def test_hostile_names_stay_text(hostile) -> None:
    text = forgetting_page(hostile)
    page = Page(text)
    assert page.open == []
    assert HOSTILE in page.text
    assert "<script" not in text
    assert "alert" not in "".join(str(value) for _, given in page.elements for value in given)
    markdown = forgetting_markdown(hostile)
    assert "<script" not in markdown.replace("\\<script", "")
    tables = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_it_can_be_read_by_keyboard_and_by_a_screen_reader(report) -> None:
    text = forgetting_page(report)
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en"
    links = [link["href"] for link in page.all("a")]
    ids = [given["id"] for _, given in page.elements if given.get("id")]
    assert len(ids) == len(set(ids))
    assert {str(link)[1:] for link in links} <= set(ids)
    assert page.elements[[n for n, _ in page.elements].index("body") + 1][1]["class"] == "skip"
    assert len(page.all("table")) == len(page.all("caption")) > 5
    assert all(cell.get("scope") in {"col", "row"} for cell in page.all("th"))
    scrolling = [div for div in page.all("div") if div.get("class") == "scroll"]
    assert len(scrolling) == len(page.all("table"))
    for container in scrolling + page.all("figure"):
        assert container["tabindex"] == "0"
        assert container.get("aria-label") or container.get("aria-labelledby") in ids
    for drawing in page.all("svg"):
        assert drawing["role"] == "img"
        assert drawing["aria-labelledby"] in ids
    for medium in ("prefers-color-scheme: dark", "@media print", ":focus-visible"):
        assert medium in text


def test_the_verdict_stands_on_top_in_words(report) -> None:
    for verdict, words in (
        ("identical", "Nothing was forgotten"),
        ("preserved", "Nothing was forgotten beyond the margin"),
        ("inconclusive", "Not proved"),
        ("lost", "Something was lost"),
    ):
        tasks = tuple(t for t in report.tasks if t.verdict_routed == verdict)
        text = forgetting_page(replace(report, tasks=tasks, matrix=(), confusion=None))
        assert f'class="verdict {verdict}"' in text
        assert words in text.partition("<main>")[0]
    changed = replace(report.tasks[0], verdict_expert="changed")
    text = forgetting_page(replace(report, tasks=(changed, *report.tasks[1:])))
    assert 'class="verdict changed"' in text
    assert "boolq@1 no longer match" in text.partition("<main>")[0]


def test_a_report_before_the_first_router_is_a_page_too(report) -> None:
    tasks = tuple(
        replace(t, routed=None, routed_before=None, verdict_routed=None, change=None, judged=None)
        for t in report.tasks
    )
    bare = ForgettingReport(None, (), tasks, ())
    page = Page(forgetting_page(bare))
    assert "Nothing to compare yet" in page.text
    assert not page.all("svg")
    assert "Not" not in forgetting_markdown(bare).partition("\n")[0]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_it_without_a_word_on_its_console(hostile, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(forgetting_page(hostile), encoding="utf-8")
    ended = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--v=0",
            "--window-size=1100,1400",
            f"--screenshot={tmp_path / 'page.png'}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "CONSOLE" not in ended.stderr
    dom = Page(ended.stdout)
    assert len(dom.all("svg")) == 2
    assert len(dom.all("script")) == 0
    circles = [c for c in dom.all("circle") if c.get("class") == "now"]
    shown = [t for t in hostile.tasks if t.change and t.change.change is not None]
    assert len(circles) == len(hostile.tasks) + len(shown)
    heated = [cell for cell in dom.all("td") if str(cell.get("style", "")).startswith("--v:")]
    known = sum(value is not None for row in hostile.matrix for value in row)
    assert hostile.confusion is not None
    assert len(heated) == known + sum(len(row) for row in hostile.confusion.counts)
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_the_sample_has_as_many_tasks_as_a_bank_of_some_size() -> None:
    assert len(NAMES) > 10
