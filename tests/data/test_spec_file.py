"""A task file: the catalog's fields, errors that name file and key, sources beside the file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import yaml

from expertbank.data import TaskSpec, catalog_names, catalog_spec, load_spec, load_task
from expertbank.data.spec_file import written
from expertbank.errors import InputError


def test_a_catalog_entry_is_a_task_file() -> None:
    folder = resources.files("expertbank.data.catalog")
    for name in catalog_names():
        assert load_spec(str(folder.joinpath(f"{name}.yaml"))) == catalog_spec(name)


def test_its_sources_are_meant_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"words {n},{'yes' if n % 2 else 'no'}\n" for n in range(20))
    (tmp_path / "rows.csv").write_text(f"body,urgent\n{rows}")
    path = tmp_path / "task.yaml"
    path.write_text(
        "\ufeffname: urgency\ncolumns: {text: body, label: urgent}\nlabels: ['no', 'yes']\n"
        "sources: [{name: own, ref: rows.csv}]\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path.parent)
    data = load_task(load_spec(path))
    assert data.labels == ("no", "yes")
    assert data.source == str((tmp_path / "rows.csv").resolve())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the task file is empty"),
        (b"- a\n", "expected keys and values, got list"),
        (b"name: a\nlabel: b: c\n", r":2: not valid YAML: mapping values are not allowed"),
        (b"name: \xff\n", "not valid UTF-8"),
        (b"name: a\ncolums: {}\n", "unknown key 'colums'; did you mean columns"),
        (b"name: a\ncolumns: {txt: b}\n", "columns: unknown key 'txt'; did you mean text"),
        (b"name: A b\n", "bad task name 'A b'"),
        (b"kind: classification\n", "name is missing"),
        (b"name: a\nkind: poetry\n", "unknown kind 'poetry'"),
        (b"name: a\nkind: [x]\n", "kind must be text"),
        (b"name: a\nlabels: [yes, no]\n", r"labels.0. must be text.*quote it"),
        (b"name: a\nsources: [{name: b, ref: 'ftp:x'}]\n", "unknown kind of data source"),
        (b"name: a\nsplit: {share: 2}\n", "share must be above 0"),
        (b"name: a\nwhen: 2020-99-99\n", "unknown key 'when'|not valid YAML"),
        (b"name: &a [*a]\n", "name must be text"),
        pytest.param(b"[" * 5000, "not valid YAML", id="deep"),
        (b"name: a\x00\n", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_spec(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_a_folder_and_a_data_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the task file"):
        load_spec(tmp_path / "gone.yaml")
    with pytest.raises(InputError, match="cannot read the task file"):
        load_spec(tmp_path)
    (tmp_path / "big.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(InputError, match="too large for a task file"):
        load_spec(tmp_path / "big.yaml")


def test_a_task_that_is_written_to_a_file_is_read_back_the_same(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    tasks = [*map(catalog_spec, catalog_names()), TaskSpec("mine")]
    tasks.append(TaskSpec("odd", label_names={"no": "", "yes": "\u202eyes: #1"}))
    for task in tasks:
        file.write_text(yaml.safe_dump(written(task), sort_keys=False), encoding="utf-8")
        assert load_spec(file) == task, task.name
        assert "null" not in file.read_text().replace("drop_labels:\n- null", "")
