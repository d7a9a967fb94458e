"""The quickstart runs, and the tutorial and the README show what it prints."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from transcripts import ROOT, Step, console_block, steps

SCRIPT = ROOT / "examples" / "01_quickstart.sh"


def _shown() -> list[Step]:
    return steps(console_block("quickstart", "docs/tutorial.md"))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.real
@pytest.mark.slow
def test_the_quickstart_runs_and_prints_what_the_tutorial_shows(
    with_warm_command: dict[str, str], tmp_path: Path
) -> None:
    for package in ("sentence_transformers", "fastapi"):
        pytest.importorskip(package, reason="install expertbank[offline,serve]")
    text = SCRIPT.read_text(encoding="utf-8")
    # The same commands at a size a test can afford: every count of rows or tokens cut down.
    small = re.sub(r"--limit \d+", "--limit 30", text)
    small = re.sub(r"--epochs \d+", "--epochs 2 --eval-limit 20", small)
    small = re.sub(r"--max-length \d+", "--max-length 24", small)
    small = re.sub(r"port=\d+", f"port={_free_port()}", small)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "serve").symlink_to(ROOT / "examples" / "serve")
    (tmp_path / "examples" / SCRIPT.name).write_text(small, encoding="utf-8")
    done = subprocess.run(
        ["bash", f"examples/{SCRIPT.name}"],
        cwd=tmp_path,
        env=with_warm_command,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran, shown = steps(done.stdout), _shown()
    assert [step.command.split()[:2] for step in shown] == [s.command.split()[:2] for s in ran]
    for ours, theirs in zip(shown, ran, strict=True):
        assert ours.shape == theirs.shape, ours.command
        for step in (ours, theirs):
            assert step.reasons == step.unproven, f"{step.command}: a reason for each, and no other"
    assert "Nothing was forgotten" in (tmp_path / ".quickstart" / "report.html").read_text() or any(
        step.unproven for step in ran
    )


def test_the_tutorial_shows_the_script_as_it_is() -> None:
    text = SCRIPT.read_text(encoding="utf-8").replace("\\\n", " ").replace("$place", ".quickstart")
    text = text.replace("$port", re.findall(r"port=(\d+)", text)[0])
    script = [
        shlex.split(line)[1:]
        for line in text.splitlines()
        if re.match(r"step (expertbank|python)", line)
    ]
    told = [shlex.split(step.command) for step in _shown()]
    assert [words for words in told if words[-1] not in {"&", "%1"}] == script


def test_the_readme_shows_a_part_of_the_same_run() -> None:
    shown = {step.command: step for step in _shown()}
    part = steps(console_block("quickstart, a part of it", "README.md"))
    assert part
    for step in part:
        told = [line for line in shown[step.command].output if line]
        kept = [line for line in step.output if line]
        assert [line for line in told if line in kept] == kept, step.command


def test_the_tutorials_experts_beat_their_majority_class_and_only_the_foreign_text_is_unknown() -> (
    None
):
    text = console_block("quickstart", "docs/tutorial.md")
    found = [float(p) for p in re.findall(r"beaten, p = ([\d.e-]+)\)", text)]
    assert len(found) == text.count("on validation rows") + len(
        re.findall(r"validation rows \(", text)
    )
    assert sorted(found)[-2] < 0.001
    # Of ``stereotype`` nine clusters of rows count: with eight for the expert, and the ninth by a
    # single row against it, no smaller p-value is to be had than two of all 2^9 signs.
    assert max(found) == pytest.approx(2 / 2**9, abs=5e-5)
    (asked,) = [step for step in _shown() if "predict" in step.command]
    assert [line.split()[-1] for line in asked.output if re.match(r" +\d", line)] == [
        "no",
        "no",
        "yes",
    ]


@pytest.mark.parametrize("kept", ["bank", "bundle", "report.html"])
def test_the_quickstart_takes_no_place_of_what_is_there_where_one_was_named(
    tmp_path: Path, kept: str
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    file = tmp_path / kept / "file"
    file.parent.mkdir()
    file.touch()
    run = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path / "bank")],
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert file.exists()
    assert run.returncode == 3
    assert f"{file.parent} exists" in run.stderr


def test_bash_can_read_the_quickstart() -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
