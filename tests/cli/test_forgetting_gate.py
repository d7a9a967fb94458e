"""forgetting-report as a gate: what it writes, what it says, how it ends."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call, content, done, task_rows, write_csv
from places import working_in

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def made_rivals(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks on texts of one kind: the second takes rows of the first; never write to it."""
    folder = tmp_path_factory.mktemp("rivals")
    home = folder / "bank"
    start = ["--home", home, "add", "--epochs", 2, "--backbone", backbone_folder("bert")]
    rows = task_rows("mood", 400)
    done(*start, "--task", "mood", "--data", write_csv(folder / "a.csv", rows, ("text", "label")))
    done("--home", home, "retrain-router")
    other = task_rows("mood", 400, seed=1)
    done(*start, "--task", "copy", "--data", write_csv(folder / "b.csv", other, ("text", "label")))
    done("--home", home, "retrain-router")
    return folder


@pytest.fixture
def rivals(made_rivals: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_rivals / "bank", tmp_path / "rivals")
    return tmp_path / "rivals"


def report(home: Path, *words: object) -> dict:
    return done("--home", home, "--json", "forgetting-report", *words).document


def test_the_gate_exits_5_after_everything_was_printed_and_written(
    rivals: Path, tmp_path: Path
) -> None:
    verdicts = {t["task"]: t["verdict"]["routed"] for t in report(rivals)["tasks"]}
    assert verdicts["mood"] == "lost"
    page, text = tmp_path / "page.html", tmp_path / "report.md"
    words = ["--home", rivals, "--json", "forgetting-report", "--html", page, "--markdown", text]
    failed = call(*words, "--fail-on", "lost")
    assert failed.code == 5
    assert failed.document["verdict"] == {"expert": "identical", "routed": "lost"}
    assert failed.error["code"] == 5
    assert "mood" in failed.error["message"]
    assert "lost" in page.read_text(encoding="utf-8")
    assert "mood" in text.read_text(encoding="utf-8")
    assert call(*words).code == 0
    assert call(*words, "--fail-on", "inconclusive").code == 5


def test_lost_alone_does_not_fail_on_what_is_undecided(rivals: Path) -> None:
    # With a margin no loss can reach, nothing is lost; with few rows it may be undecided.
    wide = ["--home", rivals, "--json", "forgetting-report", "--margin", "0.99"]
    assert call(*wide, "--fail-on", "inconclusive").code == 0
    same = ["--home", rivals, "--json", "forgetting-report", "--from", "2", "--to", "2"]
    answer = call(*same, "--fail-on", "inconclusive")
    assert answer.code == 0
    assert answer.document["verdict"]["routed"] == "identical"


@pytest.mark.parametrize("words", [["forgetting-report", "--html"], ["map", "--svg"]])
def test_standard_output_holds_the_answer_and_no_file(
    bank: Path, tmp_path: Path, words: list[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    with working_in(here):
        refused = call("--home", bank, *words, "-")
    assert refused.code == 2
    assert "name a file" in refused.err
    assert not list(here.iterdir())


def test_a_bank_without_a_comparison_proves_nothing(bank: Path, tmp_path: Path) -> None:
    words = ["--home", bank, "--json", "forgetting-report", "--to", "1", "--from", "1"]
    assert call(*words, "--fail-on", "inconclusive").code == 0
    assert call("--home", bank, "forgetting-report", "--fail-on", "sometimes").code == 2
    for wrong in (
        ["--margin", "0"],
        ["--margin", "1"],
        ["--sample", "5"],
        ["--verify", "--sample", "0"],
    ):
        assert call("--home", bank, "forgetting-report", *wrong).code == 2
    assert call("--home", bank, "forgetting-report", "--from", "9").code == 10
    assert call("--home", bank, "--json", "forgetting-report", "--markdown", "-").code == 2
    nowhere = tmp_path / "none" / "page.html"
    refused = call("--home", bank, "forgetting-report", "--html", nowhere)
    assert (refused.code, str(nowhere) in refused.err) == (2, True)


def test_changed_weights_fail_whatever_was_asked_for(bank: Path) -> None:
    digest = done("--home", bank, "--json", "show", "mood").document["expert"]["digest"]
    path = bank / "objects" / digest[:2] / f"{digest}.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    for gate in ([], ["--fail-on", "lost"], ["--fail-on", "inconclusive"]):
        answer = call("--home", bank, "--json", "forgetting-report", *gate)
        assert answer.code == 13
        assert answer.document["verdict"]["expert"] == "changed"


def test_any_two_routers_can_be_compared(rivals: Path) -> None:
    done("--home", rivals, "alias", "before", "router@1")
    default = report(rivals)
    named = report(rivals, "--from", "before", "--to", "router@2")
    assert (default["from"], default["to"]) == (None, 2)
    assert (named["from"], named["to"]) == (1, 2)
    lines = {t["task"]: t for t in named["tasks"]}
    first = {t["task"]: t for t in default["tasks"]}
    assert lines["mood"]["routed_at_add"] == first["mood"]["routed_at_add"]
    assert lines["mood"]["losses"] == first["mood"]["losses"] > 0
    # The earlier router did not know the second task: nothing to compare, nothing to fail on.
    assert lines["copy"]["from"] is None
    assert lines["copy"]["verdict"]["routed"] is None
    back = {t["task"]: t for t in report(rivals, "--from", "2", "--to", "1")["tasks"]}
    assert back["mood"]["gains"] == lines["mood"]["losses"]
    assert back["mood"]["difference"] == -lines["mood"]["difference"]
    # What router 2 served and router 1 does not know is lost by going back.
    assert back["copy"]["verdict"]["routed"] == "lost"


def test_every_router_keeps_its_evaluations_of_a_task_that_was_removed(rivals: Path) -> None:
    before = report(rivals, "--to", "2")
    with sqlite3.connect(rivals / "registry.db") as database:
        database.execute(
            "UPDATE tasks SET removed_at = '2026-01-01', removals = 1 WHERE name = 'copy'"
        )
    done("--home", rivals, "retrain-router")
    assert [t["task"] for t in report(rivals)["tasks"]] == ["mood"]
    assert report(rivals, "--to", "2") == before
    assert len(before["tasks"]) == 2


def test_markdown_to_stdout_is_the_whole_output(rivals: Path) -> None:
    answer = done("--home", rivals, "forgetting-report", "--markdown", "-")
    assert answer.out.startswith("## Forgetting report: lost\n")
    assert "| mood" in answer.out


def test_the_report_says_its_verdict_in_a_sentence(rivals: Path) -> None:
    out = done("--home", rivals, "forgetting-report").out
    first, second = out.splitlines()[:2]
    assert first.startswith("lost: ")
    assert "mood" in second
    assert "verdict" in out


def test_a_report_without_verify_imports_no_torch(made_rivals: Path, tmp_path: Path) -> None:
    shutil.copytree(made_rivals / "bank", tmp_path / "bank")
    before = content(tmp_path / "bank")
    code = (
        "import json, sys\nfrom expertbank_cli.main import run\n"
        "try:\n    run(sys.argv[1:])\nexcept SystemExit as ended:\n    assert ended.code == 0\n"
        "loaded = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    words = [
        "--home",
        tmp_path / "bank",
        "--json",
        "forgetting-report",
        "--html",
        tmp_path / "p.html",
    ]
    ended = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["to"] == 2
    assert content(tmp_path / "bank") == before
