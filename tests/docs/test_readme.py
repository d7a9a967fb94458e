"""The README says what the program does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transcripts import ROOT, console_block, steps

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "examples" / "01_quickstart.sh"
ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def _run(command: list[str], folder: Path, **more: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**ENVIRONMENT, **more},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _needs_offline_packages() -> None:
    pytest.importorskip("sentence_transformers", reason="install expertbank[offline]")


@pytest.mark.real
@pytest.mark.slow
def test_the_quickstart_runs_and_prints_what_the_readme_shows(tmp_path: Path) -> None:
    _needs_offline_packages()
    text = SCRIPT.read_text(encoding="utf-8")
    # The same commands at a size a test can afford: every count of rows or tokens cut down.
    small = re.sub(r"--limit \d+", "--limit 60", text)
    small = re.sub(r"--eval-limit \d+", "", small).replace("--epochs 2", "--epochs 1")
    small = re.sub(r"--epochs \d+", "--epochs 1 --eval-limit 40", small)
    small = re.sub(r"--max-length \d+", "--max-length 48", small)
    (tmp_path / "quickstart.sh").write_text(small, encoding="utf-8")
    ran = steps(_run(["bash", "quickstart.sh"], tmp_path))
    shown = steps(console_block("quickstart"))
    assert [step.command.split()[:2] for step in shown] == [s.command.split()[:2] for s in ran]
    for ours, theirs in zip(shown, ran, strict=True):
        assert ours.shape == theirs.shape, ours.command
        for step in (ours, theirs):
            assert step.reasons == step.unproven, f"{step.command}: a reason for each, and no other"


def test_the_readme_shows_the_quickstart_script_as_it_is() -> None:
    script = [
        line.removeprefix("step ").replace('"$bundle"', ".quickstart/bundle")
        for line in SCRIPT.read_text(encoding="utf-8").splitlines()
        if line.startswith("step expertbank")
    ]
    assert [step.command for step in steps(console_block("quickstart"))] == script


@pytest.mark.real
def test_the_own_data_transcript_is_what_the_command_prints(tmp_path: Path) -> None:
    _needs_offline_packages()
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        from importlib import import_module

        import_module("03_own_data").write_tickets(tmp_path / "tickets.csv")
    finally:
        sys.path.pop(0)
    (shown,) = steps(console_block("own data"))
    output = _run(shown.command.split(), tmp_path, EXPERTBANK_HOME=str(tmp_path / "bank"))
    (ran,) = steps(f"$ {shown.command}\n{output}")
    assert ran.shape == shown.shape


@pytest.mark.real
def test_the_python_block_runs(tmp_path: Path) -> None:
    _needs_offline_packages()
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "block.py").write_text(block.replace("limit=300", "limit=60"), encoding="utf-8")
    output = _run([sys.executable, "block.py"], tmp_path)
    assert "privacy_qa" in output


@pytest.mark.parametrize("name", ["02_python_api.py", "03_own_data.py", "04_ticket_group.py"])
@pytest.mark.real
def test_every_python_example_runs(name: str, tmp_path: Path) -> None:
    _needs_offline_packages()
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(text.replace("limit=300", "limit=60"), encoding="utf-8")
    assert _run([sys.executable, name, str(tmp_path / "out")], tmp_path)


def test_the_readme_names_every_command_and_no_other() -> None:
    from expertbank_cli.main import app

    table = README.split("## Commands")[1].split("##")[0]
    shown = {
        word for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for word in _names(row)
    }
    ours = {command.name for command in app.registered_commands}
    ours |= {group.name for group in app.registered_groups}
    assert shown - {"command"} == ours


def _names(cell: str) -> set[str]:
    return {part.split()[0] for part in re.findall(r"`([^`]+)`", cell)}


def test_the_readme_lists_every_exit_code() -> None:
    from expertbank import errors

    codes = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ExpertBankError)
    }
    paragraph = README.split("Exit codes:")[1].split("\n\n")[0]
    listed = {int(number) for number in re.findall(r"(?:^|, |\s)(\d+) [a-z]", paragraph)}
    assert listed == codes | {0, 130}


def test_every_example_is_in_the_list_of_examples() -> None:
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "examples").glob("[0-9]*")):
        assert f"`{path.name}`" in text


def test_every_benchmark_says_how_to_run_it() -> None:
    for path in sorted((ROOT / "examples" / "benchmarks").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "__main__" in text:
            assert f"python examples/benchmarks/{path.name}" in text
            assert "describe(" in text


def test_bash_can_read_the_quickstart() -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
