"""A task's own source is known again, however a reference to it is written, and from any folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from expertbank.data import TaskSpec, load_spec, load_task

ROWS = "question,passage,label\n" + "".join(
    f"what is {n},Title -- {word} {n},{word}\n" for n in range(12) for word in ("good", "bad")
)
SOURCE = {"name": "mine", "ref": "data/rows.csv", "strip_title": " -- "}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with data, a link to it, and task files of two folders."""
    (tmp_path / "data").mkdir()
    (tmp_path / "specs").mkdir()
    (tmp_path / "data" / "rows.csv").write_text(ROWS)
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "written",
    [
        lambda _: "data/rows.csv",
        lambda _: "./data/../data/rows.csv",
        lambda _: "link/rows.csv",
        lambda folder: f"{folder}/specs/../data/rows.csv",
        lambda folder: str(folder / "data" / "rows.csv"),
    ],
    ids=["relative", "dots", "link", "absolute with dots", "absolute"],
)
def test_what_is_peculiar_to_a_source_holds_however_it_is_named(
    written: Callable[[Path], str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_task(TaskSpec.from_dict({"name": "t", "sources": [SOURCE]}))
    assert not any("Title" in (row.text_pair or "") for row in plain.train)
    # Named by the user beside the task's own reference, and the task's own written so.
    named = load_task(TaskSpec.from_dict({"name": "t", "sources": [SOURCE]}), written(folder))
    own = {**SOURCE, "ref": written(folder)}
    again = load_task(TaskSpec.from_dict({"name": "t", "sources": [own]}), plain.source)
    assert named.digests == again.digests == plain.digests
    monkeypatch.chdir(folder / "specs")
    elsewhere = load_task(named.spec, named.source)
    assert elsewhere.digests == plain.digests, "what is kept of the task reads it from anywhere"


@pytest.mark.parametrize("ref", ["../data/rows.csv", "../link/rows.csv"])
def test_a_task_file_s_source_is_known_again_by_what_was_kept_of_it(ref: str, folder: Path) -> None:
    file = folder / "specs" / "t.yaml"
    file.write_text(f'name: t\nsources: [{{name: mine, ref: {ref}, strip_title: " -- "}}]\n')
    data = load_task(load_spec(file))
    assert load_task(data.spec, data.source).digests == data.digests
