"""The README is short, and what it and the examples show runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from running import command, script
from transcripts import ROOT, console_block, steps

FolderOf = Callable[[str], Path]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _needs_offline_packages() -> None:
    pytest.importorskip("sentence_transformers", reason="install expertbank[offline]")


def _smaller(text: str, backbone: Path | None = None) -> str:
    """The same job on few short rows, on a tiny backbone if one is given."""
    for large, small in (
        (r"limit=300, eval_limit=200", "limit=20, eval_limit=10"),
        (r"epochs=3", "epochs=1"),
        (r"max_length=\d+", "max_length=16"),
    ):
        text = re.sub(large, small, text)
    return text.replace(
        "bank.init(", f"bank.init(backbone={str(backbone)!r}, " if backbone else "bank.init("
    )


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.encode()) <= 9000


def test_the_pictures_of_the_readme_are_small_and_have_words_in_their_place() -> None:
    found = re.findall(r"!\[(.*?)\]\((.*?)\)", README)
    assert len(found) == 2
    for words, path in found:
        assert len(words) > 40
        assert (ROOT / path).stat().st_size <= 150_000
    svg = (ROOT / "docs" / "bank.svg").read_text(encoding="utf-8")
    assert all(part in svg for part in ("<title", "<desc", "prefers-color-scheme:dark"))


@pytest.mark.real
def test_the_python_block_runs(
    backbone_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs_offline_packages()
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    small = _smaller(block, backbone_folder("bert"))
    (tmp_path / "block.py").write_text(small, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "True" in script(tmp_path / "block.py")


def test_the_own_data_transcript_is_what_the_command_prints(
    backbone_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import import_module

    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import_module("04_ticket_group").write_tables(tmp_path)
    (shown,) = steps(console_block("own data", "docs/own-data.md"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPERTBANK_HOME", str(tmp_path / "bank"))
    init = ["init", "--backbone", str(backbone_folder("bert"))]
    assert command(init).code == 0
    done = command(shown.command.split()[1:])
    assert done.code == 0, done.err
    (ran,) = steps(f"$ {shown.command}\n{done.out}")
    assert ran.shape == shown.shape


@pytest.mark.parametrize("name", ["02_python_api.py", "03_own_data.py", "04_ticket_group.py"])
@pytest.mark.real
def test_every_python_example_runs(name: str, backbone_folder: FolderOf, tmp_path: Path) -> None:
    _needs_offline_packages()
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    small = _smaller(text, backbone_folder("bert"))
    (tmp_path / name).write_text(small, encoding="utf-8")
    assert script(tmp_path / name, str(tmp_path / "out"))


def test_the_notebook_runs(
    backbone_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat", reason="install expertbank[test]")
    nbclient = pytest.importorskip("nbclient", reason="install expertbank[test]")
    book = nbformat.read(ROOT / "examples" / "05_notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells), "outputs are not committed"
    for cell in book.cells:
        cell.source = _smaller(cell.source, backbone_folder("bert"))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [one for cell in book.cells for one in cell.get("outputs", [])]
    assert any("exam_subject@1" in str(one.get("data")) for one in shown)
    assert "iframe" in str(shown)


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


def test_the_page_of_benchmarks_leads_to_the_figures_of_every_script() -> None:
    folder = ROOT / "examples" / "benchmarks"
    index = (folder / "README.md").read_text(encoding="utf-8")
    pages = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("figures/*.md")}
    found: dict[str, list[str]] = {}
    for line in index.splitlines():
        if len(cells := line.split("|")) == 5:
            for script in re.findall(r"`(\w+\.py)`", cells[2]):
                found.setdefault(script, []).extend(re.findall(r"figures/(\w+\.md)", cells[3]))
    assert {page for named in found.values() for page in named} == set(pages)
    for path in sorted(folder.glob("*.py")):
        if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8"):
            assert path.name in found
            assert all(path.name in pages[page] for page in found[path.name])
