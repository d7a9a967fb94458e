"""`unknowns` through the command line: rows and logs in, groups out, and nothing kept unasked."""

from __future__ import annotations

import json
import random
from pathlib import Path

from command_line import call, content, done, task_rows, write_csv
from small_tasks import write_jsonl
from terminals import on_a_terminal

from expertbank.http.logs import line
from expertbank.http.seen import Seen


def strange(count: int = 40) -> list[str]:
    """Distinct texts that are like no task."""
    rng = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(["virus"] * rng.randint(4, 9) + ["zq"] * rng.randint(0, 9))] = None
    return list(found)


def asked(*texts: str, rows: int | None = None) -> dict[str, object]:
    """The line of a server's log."""
    count = len(texts) if rows is None else rows
    return line(Seen("id", "POST", "/predict", 200, 0, 0.1, rows=count, texts=texts))


def test_groups_of_a_file_are_shown_and_told_as_one_document(
    made_bank: Path, tmp_path: Path
) -> None:
    rows = [(text,) for text in (*strange(), *(text for text, _ in task_rows("mood", 20)))]
    file = write_csv(tmp_path / "rows.csv", rows, ("text",))
    before = content(made_bank / "bank"), content(tmp_path)
    place = ["--home", made_bank / "bank"]
    answer = done("unknowns", file, *place, "--json", "--groups", 2, "--typical", 2)
    found = answer.document
    told = done("predict", "--file", file, *place, "--json").lines
    assert found["read_from"] == "rows"
    assert (found["rows"], found["unknown"]) == (60, sum(one["unknown"] for one in told))
    assert 0 < len(found["groups"]) <= 2
    grouped = sum(group["rows"] for group in found["groups"])
    assert grouped + found["in_other_groups"] + found["alone"] == found["unknown"]
    first = found["groups"][0]
    assert set(first) == {"number", "rows", "distinct", "share", "nearest", "typical"}
    assert set(first["nearest"][0]) == {"task", "share"}
    assert len(first["typical"]) == 2
    assert all(rows[one["index"]][0] == one["text"] for one in first["typical"])
    shown = done("unknowns", file, *place, "--groups", 2, "--typical", 2)
    assert "nearest task" in shown.out
    assert first["typical"][1]["text"][:30] in shown.out
    assert "next: --out FILE" in shown.err
    assert (content(made_bank / "bank"), content(tmp_path)) == before, "no text is kept"
    bundled = done("unknowns", file, "--bundle", made_bank / "bundle", "--json", "--groups", 2)
    assert bundled.document["groups"][0]["rows"] == first["rows"]


def test_a_servers_log_is_read_if_it_holds_texts(made_bank: Path, tmp_path: Path) -> None:
    place = ["--home", made_bank / "bank"]
    texts = strange()
    log = write_jsonl(tmp_path / "serve.log", [asked(), asked(*texts[:3]), asked(*texts[3:])])
    found = done("unknowns", log, *place, "--json").document
    assert (found["read_from"], found["rows"]) == ("log", 40)
    assert "40 of a server's log" in done("unknowns", log, *place).out
    piped = done("unknowns", "-", *place, "--json", stdin=log.read_bytes()).document
    assert piped == found
    silent = write_jsonl(tmp_path / "silent.log", [asked(rows=2)])
    refused = call("unknowns", silent, *place)
    assert refused.code == 2
    assert "serve --log-texts" in refused.err


def test_kept_rows_can_be_labelled_and_added(bank: Path, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "rows.csv", [(text,) for text in strange()], ("text",))
    out = tmp_path / "my rows" / "next.jsonl"
    out.parent.mkdir()
    words = ["unknowns", file, "--home", bank, "--out", out]
    answer = done(*words)
    assert f"--data '{out}'" in answer.err
    kept = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {row["text"] for row in kept} <= set(strange())
    write_jsonl(out, [{**row, "label": "zq" in row["text"]} for row in kept])
    assert call(*words).code == 3
    done("--home", bank, "add", "--task", "next", "--data", out, "--epochs", 1)
    nowhere = call("unknowns", file, "--home", bank, "--out", tmp_path / "no" / "next.jsonl")
    assert nowhere.code == 2
    assert "cannot write" in nowhere.err


def test_where_nothing_is_unknown_it_says_so_and_that_is_no_failure(
    made_bank: Path, tmp_path: Path
) -> None:
    place = ["--home", made_bank / "bank"]
    (tmp_path / "none.csv").touch()
    empty = done("unknowns", tmp_path / "none.csv", *place)
    assert "none: every row is like a task" in empty.out
    assert done("unknowns", tmp_path / "none.csv", *place, "--json").document["groups"] == []
    texts = [text for text, _ in task_rows("mood", 40)]
    file = write_csv(tmp_path / "all.csv", [(text,) for text in texts], ("text",))
    told = done("predict", "--file", file, *place, "--json").lines
    known = [(texts[one["index"]],) for one in told if not one["unknown"]]
    file = write_csv(tmp_path / "known.csv", known, ("text",))
    out = tmp_path / "next.jsonl"
    answer = done("unknowns", file, *place, "--out", out)
    first, second = answer.out.splitlines()
    assert first.split() == ["rows", str(len(known))]
    assert "none: every row is like a task" in second
    assert "no group of rows is unknown" in answer.err
    assert not out.exists()


def test_what_stands_in_rows_cannot_drive_a_terminal(made_bank: Path, tmp_path: Path) -> None:
    hostile = ["\x1b[2J\x1b]0;owned\x07 virus", "\u202evirus\u202c zq", "virus " * 20_000]
    rows = [{"text": text} for text in (*hostile * 6, *strange())]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    for columns in (200, 30):
        code, shown = on_a_terminal(
            *("--home", made_bank / "bank", "unknowns", file, "--typical", 9), columns=columns
        )
        assert code == 0
        assert "\x1b]0" not in shown
        assert "\x1b[2J" not in shown
        assert "\u202e" not in shown
        assert len(shown) < 20_000


def test_bad_rows_are_refused_or_skipped_as_predict_does(made_bank: Path, tmp_path: Path) -> None:
    place = ["--home", made_bank / "bank"]
    file = tmp_path / "rows.jsonl"
    good = "".join(json.dumps({"text": text}) + "\n" for text in strange())
    file.write_text(f"{good}nonsense\n", encoding="utf-8")
    refused = call("unknowns", file, *place)
    assert refused.code == 2
    assert "rows.jsonl:41" in refused.err
    assert done("unknowns", file, *place, "--skip-bad", "--json").document["rows"] == 40
    assert call("unknowns", file, *place, "--skip-bad", "--groups", 0).code == 2
    assert call("unknowns", tmp_path / "nowhere.csv", *place).code == 2


def test_without_a_router_it_says_what_to_do(backbone: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "mood.csv", list(task_rows("mood")), ("text", "label"))
    place = ["--home", tmp_path / "bank"]
    add = ["add", "--task", "mood", "--data", data, "--epochs", 1, "--backbone", backbone]
    done(*place, *add)
    refused = call(*place, "unknowns", data)
    assert refused.code == 10
    assert "retrain-router" in refused.err
