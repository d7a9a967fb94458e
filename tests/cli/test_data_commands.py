"""Every command reads data with the same eyes, before it loads anything, and says what it saw."""

from __future__ import annotations

import gzip
import inspect
from pathlib import Path

import pytest
from command_line import call, content, done, task_rows, write_csv
from expertbank_cli import experts, tasks

from expertbank import Bank


def _excel(rows: list[tuple[str, str]]) -> bytes:
    lines = ["sep=;", "text;label;;", *(f"{text};{label};;" for text, label in rows), ";;;", ""]
    return "\r\n".join(lines).encode("cp1252")


def test_what_add_takes_the_dry_run_takes_too() -> None:
    of_add, of_check = (inspect.signature(one).parameters for one in (experts.add, tasks.check))
    where_it_is_trained = {"on", "threads"}
    assert set(of_add) - where_it_is_trained <= set(of_check)


def test_one_file_is_read_the_same_by_every_command(bank: Path, tmp_path: Path) -> None:
    rows = [(f"{text} café", label) for text, label in task_rows("mood", 40)]
    file, packed = tmp_path / "new[1].csv", tmp_path / "new[1].csv.gz"
    file.write_bytes(_excel(rows))
    packed.write_bytes(gzip.compress(_excel(rows)))
    known = ("--encoding", "cp1252")
    assert "--encoding cp1252" in call("--home", bank, "tasks", "check", file).out
    checked = done("--home", bank, "--json", "tasks", "check", file, *known).document
    assert checked["rows"]["read"] == 40
    assert checked["files"][0]["separator"] == ";"
    words = ("--home", bank, "--json", "predict", "--task", "mood", "--file")
    answers = done(*words, file, *known).lines
    assert len(answers) == 40
    assert done(*words, packed, *known).lines == answers
    assert done(*words, "-", *known, stdin=file.read_bytes()).lines == answers
    measured = done("--home", bank, "--json", "evaluate", "--task", "mood", "--data", file, *known)
    assert measured.document["n"] == 40
    added = done(
        *("--home", bank, "--json", "add", "--task", "other", "--data", file, "--epochs", 1),
        *known,
    ).document
    assert added["data"]["digests"] == checked["digests"]
    assert added["data"]["columns"]["text"] == "text"
    assert any("holding nothing" in remark for remark in added["warnings"])
    with Bank.open(bank, read_only=True) as opened:
        run_id = opened.registry.expert("other@1").run_id
        assert run_id is not None
        kept = opened.registry.run(run_id).data
    assert kept["remarks"] == added["warnings"]
    assert kept["files"][0]["encoding"] == "cp1252"
    proved = done("--home", bank, "--json", "forgetting-report", "--verify").document
    assert proved["verification"]["other"]["unverifiable"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "--file", "bad.csv"),
        ("predict", "--file", "gone.csv"),
        ("evaluate", "--task", "mood", "--data", "bad.csv"),
        ("evaluate", "--task", "mood", "--data", "gone.csv"),
        ("add", "--task", "other", "--data", "bad.csv"),
        ("add", "--task", "other", "--data", "one-of-each.csv"),
    ],
)
def test_bad_data_is_told_before_the_backbone_is_looked_for(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("text,label\ngood film,good\n,bad\nx,y,z\n")
    Path("one-of-each.csv").write_text("text,label\ngood film,good\nbad film,bad\n")
    before = content(bank)
    answer = call("--home", bank, "--json", *words, "--backbone", tmp_path / "nowhere")
    assert answer.code == 2
    assert words[-1] in answer.error["message"]
    assert content(bank) == before


def test_a_name_that_nobody_has_is_told_before_the_backbone_is_looked_for(
    bank: Path, tmp_path: Path
) -> None:
    for words in (("--task", "moot"), ("--fallback", "moot")):
        words = ("predict", "good film", *words, "--backbone", str(tmp_path / "nowhere"))
        answer = call("--home", bank, *words)
        assert answer.code == 10
        assert "mood" in answer.err


def test_the_dry_run_lists_every_bad_row_and_all_of_a_list(tmp_path: Path) -> None:
    rows = [f"{text},{label}" for text, label in task_rows("mood", 30)]
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("\n".join(["text,label", *rows]))
    bad.write_text("\n".join(["text,label", *rows, *["no label,"] * 120, "a,b,c", ",good"]))
    words = ("--home", tmp_path / "none", "tasks", "check")
    answer = call(*words, bad)
    assert answer.code == 2
    assert "no label: 120 rows, of which the first 100" in answer.out
    assert answer.out.count("no label: column 'label' is empty") == 100
    assert f"{bad}:152: 3 cells where the header has 2" in answer.out
    assert "122 bad rows to mend" in answer.err
    told = call(*words, bad, "--json")
    assert [one["rows"] for one in told.document["bad_rows"]] == [120, 1, 1]
    assert f"{bad}:32: no label" in told.error["message"]
    listed = tmp_path / "tasks.yaml"
    listed.write_text(f"- {{task: one, data: {good}}}\n- {{task: two, data: {bad}}}\n")
    both = call(*words, "--list", listed, "--json")
    assert both.code == 2
    assert [one["task"] for one in both.document["checked"]] == ["one", "two"]
    assert both.document["checked"][0]["bad_rows"] == []


def test_an_entry_of_a_list_that_is_refused_hides_none_of_the_others(tmp_path: Path) -> None:
    rows = [f"{text},{label}" for text, label in task_rows("mood", 30)]
    good, single, bad = tmp_path / "good.csv", tmp_path / "single.csv", tmp_path / "bad.csv"
    good.write_text("\n".join(["text,label", *rows]))
    single.write_text("\n".join(["text,label", *(f"{row.split(',')[0]},one" for row in rows)]))
    bad.write_text("\n".join(["text,label", *rows, "no label,"]))
    files = {"one": good, "two": single, "three": tmp_path / "gone.csv", "four": bad, "five": good}
    listed = tmp_path / "tasks.yaml"
    listed.write_text("".join(f"- {{task: {name}, data: {at}}}\n" for name, at in files.items()))
    words = ("--home", tmp_path / "none", "tasks", "check", "--list", listed)
    found = call(*words, "--json")
    checked = {one["task"]: one for one in found.document["checked"]}
    assert list(checked) == list(files)
    assert {name: one.get("code") for name, one in checked.items()} == {
        "one": None,
        "two": 2,
        "three": 2,
        "four": None,
        "five": None,
    }
    assert found.code == 2
    assert "gone.csv" in checked["three"]["message"]
    assert checked["four"]["bad_rows"][0]["rows"] == 1
    shown = call(*words)
    assert shown.code == 2
    assert shown.out.count("to train on") == 3
    assert "refused" in shown.out


def test_the_dry_run_says_what_of_the_bank_stands_in_the_way(bank: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("\n".join(["text,label", *(f"{t},{x}" for t, x in task_rows("mood", 30))]))
    words = ("--home", bank, "--json", "tasks", "check", file, "--task", "mood")
    first = done(*words).document["warnings"]
    assert any("needs --new-version" in remark for remark in first)
    then = done(*words, "--new-version", "--kind", "multi_label").document
    assert then["kind"] == "multi_label"
    assert not any("needs --new-version" in remark for remark in then["warnings"])


def test_columns_are_told_by_the_names_that_the_source_read_has(bank: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", task_rows("mood", 40), ("body", "mark"))
    spec = tmp_path / "tone.yaml"
    spec.write_text(
        "name: tone\ncolumns: {text: words, label: answer}\n"
        "sources: [{name: mine, ref: rows.csv, columns: {text: body, label: mark}}]\n"
    )
    assert "text: body, label: mark" in done("tasks", "check", "--spec", spec).out
    words = ("--home", bank, "--json", "add", "--spec", spec, "--epochs", 1)
    columns = done(*words).document["data"]["columns"]
    assert (columns["text"], columns["label"]) == ("body", "mark")
