"""The shipped folder: complete, verified, refused when touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
from small_bank import TASKS, add, content, tamper, texts

from expertbank import Bank, Row, load_bundle
from expertbank.errors import ExistsError, ExpertBankError, IntegrityError, NotFoundError

ROWS = [Row(text) for text in texts(6)]


def test_the_manifest_tells_what_is_inside(job: Path) -> None:
    manifest = json.loads((job / "bundle" / "manifest.json").read_text())
    with Bank.open(job / "bank") as bank:
        record, experts = bank.backbone(), bank.experts()
    assert record is not None
    assert manifest["backbone"]["digest"] == record.digest
    assert manifest["feature_spec"] == record.feature_spec.to_dict()
    assert {e["id"]: e["digest"] for e in manifest["experts"]} == {e.id: e.digest for e in experts}
    assert {e["id"]: tuple(e["labels"]) for e in manifest["experts"]} == {
        e.id: e.labels for e in experts
    }
    assert {"expertbank", "torch", "transformers"} <= set(manifest["made_with"])
    there = {
        path.relative_to(job / "bundle").as_posix()
        for path in (job / "bundle").rglob("*")
        if path.is_file()
    }
    assert there == {"manifest.json", *manifest["files"]}
    readme = (job / "bundle" / "README.md").read_text()
    assert all(task in readme for task in TASKS)


def test_every_listed_file_is_checked_before_it_is_used(job: Path) -> None:
    manifest = json.loads((job / "bundle" / "manifest.json").read_text())
    used = [name for name in manifest["files"] if name.endswith(".safetensors")]
    assert len(used) == 1 + len(TASKS)
    for number, name in enumerate(used):
        touched = job / f"touched{number}"
        shutil.copytree(job / "bundle", touched)
        tamper(touched / name)
        with pytest.raises(IntegrityError, match=Path(name).name):
            list(load_bundle(touched).predict(ROWS))
        (touched / name).unlink()
        with pytest.raises(IntegrityError, match=Path(name).name):
            list(load_bundle(touched).predict(ROWS))


def _edit(folder: Path, change: object) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)  # type: ignore[operator]
    path.write_text(json.dumps(manifest))


def _swap_labels(manifest: dict) -> None:  # type: ignore[type-arg]
    manifest["experts"][0]["labels"].reverse()


def _swap_files(manifest: dict) -> None:  # type: ignore[type-arg]
    one, two = manifest["experts"][:2]
    one["file"], two["file"] = two["file"], one["file"]


def _other_spec(manifest: dict) -> None:  # type: ignore[type-arg]
    manifest["feature_spec"]["max_length"] = 16


def _other_backbone(manifest: dict) -> None:  # type: ignore[type-arg]
    manifest["feature_spec"]["backbone_digest"] = "0" * 64


def _no_expert(manifest: dict) -> None:  # type: ignore[type-arg]
    del manifest["experts"][0]


def _path_out(manifest: dict) -> None:  # type: ignore[type-arg]
    name = "../bank/registry.db"
    manifest["experts"][0]["file"] = name
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}


@pytest.mark.parametrize(
    "change", [_swap_labels, _swap_files, _other_spec, _other_backbone, _no_expert, _path_out]
)
def test_an_edited_manifest_is_refused(change: object, job: Path) -> None:
    _edit(job / "bundle", change)
    with pytest.raises(IntegrityError):
        list(load_bundle(job / "bundle").predict(ROWS))


def test_a_manifest_of_nonsense_is_refused(job: Path) -> None:
    path = job / "bundle" / "manifest.json"
    for nonsense in (b"", b"{}", b"[]", b"null", b"{" * 100_000, b"\xff\xfe", b'{"format": 99}'):
        path.write_bytes(nonsense)
        with pytest.raises(IntegrityError):
            load_bundle(job / "bundle")
    path.unlink()
    with pytest.raises(NotFoundError):
        load_bundle(job / "bundle")


def test_a_bundle_with_another_backbone_is_refused(job: Path, tmp_path: Path) -> None:
    other = tiny.build(tmp_path / "other", "bert", seed=1)
    with pytest.raises(IntegrityError, match="digest"):
        load_bundle(job / "bundle", backbone=str(other))


def test_a_bundle_with_its_backbone_needs_nothing_else(own_backbone: Path, tmp_path: Path) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(own_backbone)) as bank:
        for task in ("films", "laws"):
            add(bank, task, tmp_path)
        bank.retrain_router()
        bank.export(tmp_path / "light")
        bank.export(tmp_path / "whole", with_backbone=True)
        expected = bank.predict(ROWS)
    shutil.rmtree(own_backbone)
    shutil.rmtree(tmp_path / "bank")
    moved = (tmp_path / "whole").rename(tmp_path / "moved")
    assert list(load_bundle(moved).predict(ROWS)) == expected
    with pytest.raises(ExpertBankError):
        load_bundle(tmp_path / "light")
    tamper(moved / "backbone" / "model.safetensors")
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_bundle(moved)


def test_a_subset_masks_the_router_and_the_manifest_says_so(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        result = bank.export(job / "part", tasks=["films", "laws"])
        whole = bank.predict(ROWS)
        with pytest.raises(NotFoundError, match="films"):
            bank.export(job / "none", tasks=["filns"])
    assert set(result.experts) == {"films@1", "laws@1"}
    manifest = json.loads((job / "part" / "manifest.json").read_text())
    assert manifest["router"]["masked"] is True
    assert {e["task"] for e in manifest["experts"]} == {"films", "laws"}
    part = load_bundle(job / "part")
    assert part.tasks == ("films", "laws")
    answers = list(part.predict(ROWS))
    assert {answer.task for answer in answers} <= {"films", "laws"}
    for ours, theirs in zip(answers, whole, strict=True):
        if theirs.task != "games":
            assert (ours.task, ours.label) == (theirs.task, theirs.label)
            # Rows of other tasks stand in its batches now: the last bits of sums may differ.
            assert ours.scores == pytest.approx(theirs.scores, abs=1e-6)
            assert ours.confidence >= theirs.confidence
    with pytest.raises(NotFoundError):
        list(part.predict(ROWS, task="games"))
    assert not (job / "none").exists()


def test_export_replaces_an_older_bundle_and_touches_nothing_else(job: Path) -> None:
    older = content(job / "bundle")
    with Bank.open(job / "bank") as bank:
        bank.export(job / "bundle", tasks=["films"])
        assert content(job / "bundle") != older
        assert len(content(job / "bundle")) < len(older)
        bank.export(job / "bundle")
        assert content(job / "bundle") == older

        (job / "bundle" / "notes.txt").write_text("mine")
        mine = content(job / "bundle")
        with pytest.raises(ExistsError):
            bank.export(job / "bundle")
        assert content(job / "bundle") == mine
        (job / "file").write_text("mine")
        with pytest.raises(ExistsError):
            bank.export(job / "file")
        (job / "hollow").mkdir()
        bank.export(job / "hollow")
    assert content(job / "hollow") == older
    assert not [path for path in job.iterdir() if path.name.startswith(".")]


def test_an_expert_that_was_touched_is_never_shipped(job: Path) -> None:
    before = content(job / "bundle")
    with Bank.open(job / "bank") as bank:
        (expert,) = bank.experts("films")
        path = job / "bank" / "objects" / expert.digest[:2] / f"{expert.digest}.safetensors"
        tamper(path)
        with pytest.raises(IntegrityError, match=expert.digest):
            bank.export(job / "bundle")
        assert content(job / "bundle") == before
        assert [event.kind for event in bank.history()].count("exported") == 1
    assert not [path for path in job.iterdir() if path.name.startswith(".")]


def test_every_export_is_in_the_history(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        bank.export(job / "again")
        told = [event.subject for event in bank.history() if event.kind == "exported"]
        assert len(told) == 2
        assert told[-1] == bank.history()[-1].subject == str(job / "again")
