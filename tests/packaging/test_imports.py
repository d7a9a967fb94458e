"""What is imported when, and which room may import which."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "datasets", "safetensors", "numpy", "scipy")


def run_in_a_fresh_interpreter(code: str, *arguments: str) -> list[str]:
    """Run ``code`` and give back which modules it left imported."""
    tail = "\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code + tail, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    modules: list[str] = json.loads(ended.stdout.splitlines()[-1])
    return modules


def test_importing_the_package_imports_neither_torch_nor_sql() -> None:
    modules = run_in_a_fresh_interpreter("import expertbank; expertbank.__version__")
    assert not {"torch", "sqlalchemy", "transformers", "numpy"} & set(modules)
    assert "expertbank" in modules


def test_every_public_name_can_be_had() -> None:
    import expertbank

    assert all(getattr(expertbank, name) is not None for name in expertbank.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        expertbank.no_such_name  # noqa: B018


_COMMANDS = """
import contextlib, io, sys
from expertbank_cli.main import run
home = sys.argv[1]
for words in sys.argv[2:]:
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run(["--home", home, *words.split()])
    except SystemExit as ended:
        assert ended.code == 0, (words, ended.code)
    assert out.getvalue().strip(), words
    heavy = {"torch", "transformers", "datasets"} & set(sys.modules)
    assert not heavy, (words, heavy)
"""
NAMES = (
    "",
    "init",
    "add",
    "retrain-router",
    "forgetting-report",
    "export",
    "predict",
    "evaluate",
    "unknowns",
    "serve",
    "tasks",
    "list",
    "show",
    "history",
    "alias",
    "verify",
    "remove",
    "gc",
    "import",
    "doctor",
    "db",
    "db upgrade",
    "db backup",
    "db restore",
)


def test_help_of_every_command_needs_no_torch(tmp_path: Path) -> None:
    words = [f"{name} --help".strip() for name in NAMES]
    modules = run_in_a_fresh_interpreter(_COMMANDS, str(tmp_path), *words)
    assert not {"sqlalchemy", *HEAVY} & set(modules)


def test_registry_commands_need_no_torch(made_bank: Path) -> None:
    words = ["list", "show mood", "show active", "history", "verify", "alias", "tasks"]
    words += ["tasks boolq", "list --json", "doctor", "gc --dry-run", "db"]
    words += ["remove --task mood --dry-run", "forgetting-report"]
    run_in_a_fresh_interpreter(_COMMANDS, str(made_bank), *words)


def test_the_direction_between_rooms_holds() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from importlinter.cli import lint_imports_command as c; c()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout


@pytest.mark.parametrize("path", ["typing/api.py", "plugins/sample/expertbank_sample"])
def test_the_public_interface_is_typed(path: str) -> None:
    """The files are checked as a user's own code would be, and never run."""
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(ROOT / "tests" / path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
