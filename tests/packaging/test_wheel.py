"""The wheel: what is in it, and that it works where the sources are not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("expertbank", "cli", "migrations")
FILES = ("pyproject.toml", "README.md", "LICENSE")
TOP = {
    *("pyproject.toml", "expertbank", "migrations", "cli", "tests", "examples", "docs"),
    *("Makefile", "constraints.txt", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *("CITATION.cff", "SECURITY.md", "mkdocs.yml"),
}
SHIPPED = {".py", ".yaml", ".mako", ".typed", ".j2", ".css", ".js"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the sources."""
    for package in ("build", "setuptools"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"building a wheel needs {package}: pip install 'expertbank[test]'")
    copy = tmp_path_factory.mktemp("sources")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, copy)
    out = tmp_path_factory.mktemp("wheel")
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    ended = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    installed = {"expertbank": "expertbank", "cli": "expertbank_cli"}
    installed["migrations"] = "expertbank_migrations"
    wanted = {
        f"{installed[room]}/{path.relative_to(ROOT / room).as_posix()}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix in SHIPPED
    }
    assert {
        "expertbank/py.typed",
        "expertbank/data/catalog/boolq.yaml",
        "expertbank/reports/templates/forgetting.html.j2",
        "expertbank_cli/main.py",
        "expertbank_migrations/env.py",
        "expertbank_migrations/script.py.mako",
        "expertbank_migrations/versions/0001_create_registry.py",
    } <= wanted
    content = {name for name in names if ".dist-info/" not in name}
    assert content == wanted
    assert any(name.endswith("LICENSE") for name in names)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a clean environment with only the wheel and this environment's packages."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    scheme = sysconfig.get_preferred_scheme("prefix")
    names = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", scheme, names))
    scripts = Path(sysconfig.get_path("scripts", scheme, names))
    python = scripts / Path(sys.executable).name
    words = ["-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    ended = subprocess.run(
        [sys.executable, *words, "--no-compile", str(wheel)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    # Third-party packages come from here; a .pth in them is not followed, so the sources are not
    # on the path.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts / "expertbank"


def _run(command: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [str(command), *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=120,
        check=False,
    )


def test_the_installed_command_runs_without_the_sources(
    installed: Path, tmp_path: Path, backbone_folder: Callable[[str], Path]
) -> None:
    python = installed.with_name(Path(sys.executable).name)
    code = "import expertbank, expertbank_cli, expertbank_migrations as m, json; "
    code += "print(json.dumps([p.__file__ for p in (expertbank, expertbank_cli, m)]))"
    where = _run(python, "-c", code, cwd=tmp_path)
    for file in json.loads(where.stdout):
        assert ROOT not in Path(file).parents
        assert installed.parents[1] in Path(file).parents

    version = _run(installed, "--version", cwd=tmp_path)
    assert version.stdout.startswith("expertbank ")
    home = str(tmp_path / "bank")
    tasks = _run(installed, "--home", home, "tasks", "--json", cwd=tmp_path)
    assert {"boolq", "bbc_news", "privacy_qa"} <= {
        task["task"] for task in json.loads(tasks.stdout)["tasks"]
    }
    backbone = str(backbone_folder("bert"))
    made = _run(installed, "--home", home, "--json", "init", "--backbone", backbone, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["backbone"]["reference"] == backbone
    found = _run(installed, "--home", home, "--json", "verify", cwd=tmp_path)
    assert json.loads(found.stdout)["ok"] is True


def test_nothing_else_stands_at_the_top_of_the_repository() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git work tree: what is ignored does not count")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    top = {name.split("/")[0] for name in listed}
    assert {name for name in top if not name.startswith(".")} == TOP
