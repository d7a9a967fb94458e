"""Banks of two sites merged without a row: the router of one bank that saw everything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from small_bank import TASKS, add, content, texts

from expertbank import Bank, RouterConfig
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import FeatureSpecError, InputError, IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.workflows.growing.jobs import FinishedJob

FolderOf = Callable[[str], Path]
SITES = {"north": ("films", "laws"), "south": ("games",)}


@pytest.fixture(scope="module")
def sites(backbone_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By what they keep: two sites' banks, one that saw everything, and the sites' exports."""
    folder = tmp_path_factory.mktemp("sites")
    for keep in ("stats", "features"):
        for site, tasks in {**SITES, "whole": tuple(TASKS)}.items():
            home = folder / keep / site
            with Bank.open(home, backbone=str(backbone_folder("bert"))) as bank:
                bank.init(keep=keep)
                for task in tasks:
                    add(bank, task, folder)
                bank.retrain_router()
                bank.export(folder / keep / f"{site}-out", for_import=True, statistics=True)
    return folder


@pytest.fixture
def merged(sites: Path, tmp_path: Path) -> Iterator[Callable[..., Bank]]:
    """Opens a fresh bank into which the sites' exports came in some order."""
    opened = []

    def merge(keep: str, *order: str) -> Bank:
        bank = Bank.open(tmp_path / "-".join((keep, *order)), create=True)
        opened.append(bank)
        for site in order:
            bank.import_bundle(sites / keep / f"{site}-out")
        return bank

    yield merge
    for bank in opened:
        bank.close()


@pytest.mark.parametrize("kind", ["lda", "ridge"])
def test_merged_in_any_order_they_give_the_router_of_one_bank_that_saw_everything(
    sites: Path, merged: Callable[..., Bank], kind: str
) -> None:
    config = RouterConfig(kind)
    with Bank.open(sites / "stats" / "whole") as whole:
        expected = whole.retrain_router(config=config).router.digest
    for order in (("north", "south"), ("south", "north")):
        assert merged("stats", *order).retrain_router(config=config).router.digest == expected


def test_a_site_that_leaves_again_leaves_no_bit(sites: Path, merged: Callable[..., Bank]) -> None:
    bank = merged("stats", "north", "south")
    bank.retrain_router()
    bank.remove("games")
    with Bank.open(sites / "stats" / "north", read_only=True) as north:
        assert bank.retrain_router().router.digest == north.registry.router().digest


def test_banks_that_keep_features_merge_to_the_same_gate_and_say_what_is_not_measured(
    sites: Path, merged: Callable[..., Bank]
) -> None:
    with Bank.open(sites / "features" / "whole", read_only=True) as whole:
        expected = whole._workspace.router(whole.registry.router())
    found = []
    for order in (("north", "south"), ("south", "north")):
        bank = merged("features", *order)
        result = bank.retrain_router()
        assert sorted(result.unmeasured) == sorted(TASKS)
        assert result.metrics["accuracy"] is None
        router = bank._workspace.router(result.router)
        assert router.gate.tensors().keys() == expected.gate.tensors().keys()
        for name, tensor in router.gate.tensors().items():
            assert torch.equal(tensor, expected.gate.tensors()[name]), "the same choices"
        found.append(result.router.digest)
        report = bank.forgetting_report()
        assert all(task.routed is not None for task in report.tasks), "rows are at their source"
    assert len(set(found)) == 1


def test_a_bank_with_rows_of_some_measures_those_and_names_the_others(
    sites: Path, merged: Callable[..., Bank], tmp_path: Path
) -> None:
    bank = merged("features", "south")
    with Bank.open(sites / "features" / "north") as north:
        north.export(tmp_path / "rows", for_import=True)
    bank.import_bundle(tmp_path / "rows")
    result = bank.retrain_router()
    assert result.unmeasured == ("games",)
    assert set(result.metrics["per_task"]) == {"films", "laws"}
    assert bank.verify().ok
    assert bank.forgetting_report().router == result.router.version
    with pytest.raises(InputError, match="games@1 this bank keeps statistics only"):
        bank.retrain_router(config=RouterConfig("mlp"))
    assert {answer.task for answer in bank.predict(texts(20))} == set(TASKS)


@pytest.mark.parametrize("keep", ["stats", "features"])
def test_statistics_leave_without_a_row_and_features_only_when_asked_for(
    sites: Path, keep: str
) -> None:
    out = sites / keep / "north-out"
    assert not (out / "features").exists()
    entries = json.loads((out / "manifest.json").read_text())["experts"]
    for entry in entries:
        assert "features" not in entry["lineage"]
        tensors = load((out / entry["lineage"]["statistics"]).read_bytes())
        assert len(tensors["rows"]) == len(tensors["row_shapes"]) == 0


def test_statistics_alone_are_nothing_to_export(sites: Path, tmp_path: Path) -> None:
    home = sites / "stats" / "north"
    with Bank.open(home) as bank, pytest.raises(InputError, match="give both"):
        bank.export(tmp_path / "out", statistics=True)
    assert not (tmp_path / "out").exists()


def test_exports_are_the_same_bytes_twice(sites: Path, tmp_path: Path) -> None:
    with Bank.open(sites / "features" / "north") as bank:
        first, second = (
            bank.export(tmp_path / name, for_import=True, statistics=True) for name in "ab"
        )
    assert first.digest == second.digest


def test_statistics_of_another_feature_spec_or_backbone_are_refused(
    sites: Path, merged: Callable[..., Bank], tmp_path: Path, backbone_folder: FolderOf
) -> None:
    bank = merged("features", "south")
    before = content(bank._workspace.folder)
    with pytest.raises(FeatureSpecError, match="keep stats, here features"):
        bank.import_bundle(sites / "stats" / "north-out")
    with Bank.open(tmp_path / "other", backbone=str(backbone_folder("llama"))) as other:
        other.init(keep="features")
        with pytest.raises(IntegrityError, match="with backbone"):
            other.import_bundle(sites / "features" / "north-out")
    assert content(bank._workspace.folder) == before


DAMAGES = {
    "another spec": lambda t, m: m.update(feature_spec_digest="0" * 64),
    "a count of none": lambda t, m: m.update(count=0),
    "a negative square": lambda t, m: t["gram"][:1].fill_(-1),
    "a square below the mean's": lambda t, m: t["gram"][:1].fill_(0),
    "not positive": lambda t, m: t["gram"][1:4].fill_(int(t["gram"].max())),
    "no integers": lambda t, m: t.update(gram=t["gram"].double()),
    "another grid": lambda t, m: m["grid"].update(projection="stats"),
}


@pytest.fixture(scope="module")
def done(sites: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinishedJob]:
    """A bank that keeps statistics, and a finished job of it."""
    from small_bank import SHORT, write_task

    from expertbank.workflows.growing.jobs import run_job

    folder = tmp_path_factory.mktemp("done")
    data = write_task(folder / "games.csv", "games")
    with Bank.open(sites / "stats" / "north") as bank:
        return bank._workspace.folder, run_job(bank.prepare("games", data=data, train=SHORT))


@pytest.mark.parametrize("damage", DAMAGES)
def test_statistics_that_no_rows_have_are_refused_and_nothing_is_written(
    done: tuple[Path, FinishedJob], damage: str
) -> None:
    home, job = done
    tensors, metadata = read_safetensors(job.files["features"], "test")
    DAMAGES[damage](tensors, metadata)
    files = {**job.files, "features": write_safetensors(tensors, metadata)}
    digests = {name: sha256_bytes(data) for name, data in files.items()}
    before = content(home)
    with Bank.open(home) as bank:
        with pytest.raises(IntegrityError, match="games@1"):
            bank.commit(replace(job, files=files, digests=digests))
        assert "games" not in bank.tasks()
    assert {n: d for n, d in content(home).items() if n.startswith("objects")} == {
        n: d for n, d in before.items() if n.startswith("objects")
    }
