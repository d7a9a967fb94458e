"""The Hub is asked once, its commit is kept, and its absence is said at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from expertbank.data import TaskSpec, find_rows, load_task
from expertbank.errors import SourceUnavailableError

datasets = pytest.importorskip("datasets")
huggingface_hub = pytest.importorskip("huggingface_hub")

COMMIT = "c0ffee"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A Hub that holds one data set, with three splits."""
    calls: list[tuple[Any, ...]] = []

    def info(self: Any, repo: str, *, revision: str | None, timeout: float) -> Any:
        calls.append(("info", repo, revision))
        assert timeout <= 10
        return SimpleNamespace(sha=COMMIT)

    def load(path: str, name: str | None, revision: str | None) -> Any:
        calls.append(("load", path, name, revision))
        return {
            split: datasets.Dataset.from_list(
                [{"text": f"{split} {n}", "label": n % 2} for n in range(size)]
            )
            for split, size in (("train", 20), ("validation_matched", 6), ("validation_other", 4))
        }

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_the_commit_is_resolved_loaded_and_kept(asked: list[tuple[Any, ...]]) -> None:
    data = load_task(TaskSpec("mine"), "hf:org/name:conf@main")
    assert asked == [("info", "org/name", "main"), ("load", "org/name", "conf", COMMIT)]
    assert (data.source, data.revision) == (f"hf:org/name:conf@{COMMIT}", COMMIT)
    assert data.counts["validation"] == 10
    assert data.validation[0].origin.startswith("hf:org/name:conf@main/validation_")
    wanted = data.validation[0].digest
    assert find_rows(data.spec, data.source, [wanted])[wanted] == data.validation[0]
    assert asked[-1] == ("load", "org/name", "conf", COMMIT)


def test_a_source_can_name_its_validation_split(asked: list[tuple[Any, ...]]) -> None:
    source = {"name": "hub", "ref": "hf:org/name", "validation_split": "validation_matched"}
    spec = TaskSpec.from_dict({"name": "mine", "sources": [source]})
    assert load_task(spec).counts["validation"] == 6
    assert load_task(spec, "hf:org/name@v1").counts["validation"] == 6


def test_an_unreachable_hub_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no route\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked again"))
    with pytest.raises(
        SourceUnavailableError, match=r"hf:org/name could not be had.*no route;.*--data FILE$"
    ):
        load_task(TaskSpec("mine"), "hf:org/name")


def test_in_offline_mode_an_earlier_download_is_asked_for(
    asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> Any:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", offline)
    data = load_task(TaskSpec("mine"), "hf:org/name@v1")
    assert asked == [("load", "org/name", None, "v1")]
    assert (data.source, data.revision) == ("hf:org/name@v1", None)
