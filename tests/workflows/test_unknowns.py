"""Rows that the bank calls unknown, grouped: from Python, by bank and bundle."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from small_bank import SHORT, add, content, texts

from expertbank import Bank, Predictor, Row, load_bundle
from expertbank.data import rows_to_answer
from expertbank.errors import ExistsError, InputError, NotFoundError
from expertbank.records import EncodedRow
from expertbank.workflows.answering.collected import SHOWN, DistinctRows
from expertbank.workflows.answering.unknowns import unknowns


def strange(count: int = 40, seed: int = 0) -> list[str]:
    """Distinct texts of two kinds, neither like any task: nearly all of them are unknown."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        word = ("virus", "?")[len(found) % 2]
        other = ("gene", "zq")[len(found) % 2]
        found[" ".join([*[word] * rng.randint(4, 9), *[other] * rng.randint(0, 9)])] = None
    return list(found)


def test_what_predict_calls_unknown_is_grouped_and_nothing_else(made_job: Path) -> None:
    rows = [*texts(30), *strange()]
    before = content(made_job / "bank")
    with Bank.open(made_job / "bank", read_only=True) as bank:
        flags = [answer.unknown for answer in bank.predict(rows)]
        found = bank.unknowns(rows, groups=100)
        tasks = [task.name for task in bank.tasks()]
    assert content(made_job / "bank") == before, "no text is kept"
    assert (found.rows, found.unknown) == (len(rows), sum(flags))
    assert found.unknown > 20
    assert found.distinct == found.sampled == found.unknown
    assert len(found.groups) == found.groups_found > 0
    assert sum(group.rows for group in found.groups) + found.alone == found.unknown
    assert (found.in_other_groups, found.not_compared) == (0, 0)
    sizes = [group.rows for group in found.groups]
    assert sizes == sorted(sizes, reverse=True)
    for number, group in enumerate(found.groups, start=1):
        assert group.number == number
        assert group.share == pytest.approx(group.rows / found.unknown)
        assert {near.task for near in group.nearest} <= set(tasks)
        assert sum(near.share for near in group.nearest) == pytest.approx(1)
        assert len(group.typical) == min(3, group.distinct)
        assert all(flags[row.index] and rows[row.index] == row.text for row in group.typical)


def test_the_same_rows_give_the_same_groups_whatever_their_order(made_job: Path) -> None:
    rows = [*texts(30), *strange(), *strange()[:9]]
    with Bank.open(made_job / "bank", read_only=True) as bank:
        first = bank.unknowns(rows, out=made_job / "first.jsonl")
        shuffled = random.Random(1).sample(rows, len(rows))
        again = bank.unknowns(shuffled, out=made_job / "again.jsonl")
    assert (made_job / "first.jsonl").read_bytes() == (made_job / "again.jsonl").read_bytes()
    one, other = first.to_dict(), again.to_dict()
    for document in (one, other):
        for group in document["groups"]:
            for row in group["typical"]:
                del row["index"]
    assert one == other


def test_bank_and_bundle_find_the_same(made_job: Path) -> None:
    rows = [*texts(30), *strange()]
    with Bank.open(made_job / "bank", read_only=True) as bank:
        found = bank.unknowns(rows)
    assert unknowns(load_bundle(made_job / "bundle"), iter(rows)) == found


def test_a_text_that_came_often_is_shown_once_and_counted_as_often(made_job: Path) -> None:
    text = "virus " * 9
    with Bank.open(made_job / "bank", read_only=True) as bank:
        assert bank.predict(text)[0].unknown
        found = bank.unknowns([text] * 30)
    (group,) = found.groups
    assert (found.unknown, found.distinct, group.rows, group.distinct) == (30, 1, 30, 1)
    assert [(row.index, row.text) for row in group.typical] == [(0, text)]


def test_rows_of_the_groups_can_be_kept_and_added(job: Path) -> None:
    out = job / "next.jsonl"
    with Bank.open(job / "bank") as bank:
        found = bank.unknowns([*strange(60), *strange(60)[:5]], groups=2, out=out)
        kept = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert [line["group"] for line in kept] == sorted(line["group"] for line in kept)
        for group in found.groups:
            own = [line for line in kept if line["group"] == group.number]
            assert (len(own), sum(line["rows"] for line in own)) == (group.distinct, group.rows)
            typical = [row.text for row in group.typical]
            assert [line["text"] for line in own][: len(typical)] == typical
        labelled = [{**line, "label": ("odd", "even")[n % 2]} for n, line in enumerate(kept)]
        out.write_text("".join(f"{json.dumps(line)}\n" for line in labelled))
        added = bank.add("next", data=out, train=SHORT)
        assert added.expert.labels == ("even", "odd")
        bank.retrain_router()
        with pytest.raises(ExistsError, match="may hold labels"):
            bank.unknowns(strange(), out=out)
    assert [row.text for row in rows_to_answer(str(out))] == [line["text"] for line in kept]
    assert sorted(path.name for path in job.iterdir() if path.name.startswith((".", "tmp"))) == []


def test_nothing_is_written_where_the_work_fails(made_job: Path, tmp_path: Path) -> None:
    def breaks():  # type: ignore[no-untyped-def]
        yield from strange()
        yield InputError("rows:41: broken")

    with Bank.open(made_job / "bank", read_only=True) as bank:
        with pytest.raises(InputError, match="broken"):
            bank.unknowns(breaks(), out=tmp_path / "out.jsonl")
        with pytest.raises(InputError, match="at least 1"):
            bank.unknowns(strange(), groups=0)
    assert list(tmp_path.iterdir()) == []


def test_hostile_rows_are_grouped_like_any_other(made_job: Path, tmp_path: Path) -> None:
    hostile = [
        "\x1b[2J\x1b]0;owned\x07",
        "virus " * 170_000,
        "\u202egnp.exe",
        "\x9b31m",
        "\n\t\n x",
    ]
    rows = [*hostile * 6, *strange()]
    out = tmp_path / "out.jsonl"
    with Bank.open(made_job / "bank", read_only=True) as bank:
        flags = [answer.unknown for answer in bank.predict(rows)]
        found = bank.unknowns(rows, groups=50, typical=50, out=out)
    assert found.unknown == sum(flags)
    shown = [row.text for group in found.groups for row in group.typical]
    assert all(len(text) <= SHOWN for text in shown)
    kept = {json.loads(line)["text"] for line in out.read_text(encoding="utf-8").splitlines()}
    assert kept <= set(rows)
    assert {text for text, flag in zip(hostile, flags, strict=False) if flag} <= kept


def test_pairs_are_kept_as_pairs(made_job: Path, tmp_path: Path) -> None:
    rows = [Row("virus " * n, "gene " * n) for n in range(3, 20)]
    with Bank.open(made_job / "bank", read_only=True) as bank:
        flags = [answer.unknown for answer in bank.predict(rows)]
        found = bank.unknowns(rows, out=tmp_path / "out.jsonl")
    assert found.unknown == sum(flags) > 0
    assert found.groups
    for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines():
        own = json.loads(line)
        assert Row(own["text"], own["text_pair"]) in rows


def test_a_bank_that_knows_every_row_finds_no_group(made_job: Path) -> None:
    with Bank.open(made_job / "bank", read_only=True) as bank:
        known = [answer for answer in bank.predict(texts(30)) if not answer.unknown]
        rows = [texts(30)[answer.index] for answer in known]
        found = bank.unknowns(rows)
        assert (found.rows, found.unknown, found.groups, found.alone) == (len(rows), 0, (), 0)
        assert bank.unknowns([]).rows == 0


def test_without_a_router_that_tells_unknown_rows_it_says_what_to_do(
    made_job: Path, backbone_folder, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(backbone_folder("bert"))) as bank:
        add(bank, "films", tmp_path)
        with pytest.raises(NotFoundError, match="retrain-router"):
            bank.unknowns(["a film"])
    bundle = load_bundle(made_job / "bundle")
    router = bundle.router
    assert router is not None
    blind = Predictor(bundle.model, bundle.experts, replace(router, unknown=None))
    with pytest.raises(NotFoundError, match=r"cannot tell unknown rows.*Add rows"):
        unknowns(blind, ["a film"])


def test_more_distinct_rows_than_are_compared_are_counted_whatever_their_order() -> None:
    encoded = EncodedRow(((2, 3),), ((0, 0),))
    rows = [Row(f"text {number % 60}") for number in range(100)]

    def collected(order: list[Row]) -> tuple[int, list[tuple[str, int]]]:
        found = DistinctRows(most=10)
        for index, row in enumerate(order):
            if not found.counted(row.digest):
                found.add(row, encoded, row.digest, index, ("films",), None)
        return found.total, [(one.text, one.count) for one in found]

    total, kept = collected(rows)
    digests = {row.digest: row.text for row in rows}
    first = [digests[digest] for digest in sorted(digests)[:10]]
    assert total == 100
    assert kept == [(text, 2 if int(text.split()[1]) < 40 else 1) for text in first]
    assert collected(rows[::-1]) == (total, kept)
