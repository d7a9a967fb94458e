"""Experts of one bank in another."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from command_line import call, content, done, task_rows, write_csv, write_task

from expertbank import Bank
from expertbank.artifacts.local import LocalStore


def digests(home: Path) -> dict[str, str]:
    listed = done("--home", home, "--json", "list").document["experts"]
    return {expert["id"]: expert["digest"] for expert in listed}


@pytest.fixture
def other(backbone: Path, tmp_path: Path) -> Path:
    """Another bank on the same backbone, with one task of its own."""
    home = tmp_path / "other"
    data = write_task(tmp_path / "own.csv", "sport", 60, seed=3)
    add = ["add", "--task", "own", "--data", data, "--epochs", 1, "--backbone", backbone]
    done("--home", home, *add, "--retrain-router")
    return home


def test_imported_experts_are_the_same_bytes_and_work_as_if_trained_here(
    other: Path, importable: Path, bank: Path
) -> None:
    answer = done("--home", other, "--json", "import", importable).document
    assert [e["id"] for e in answer["imported"]] == ["mood@1", "poll@1", "sport@1"]
    assert answer["skipped"] == []
    theirs = digests(bank)
    assert theirs.items() <= digests(other).items()
    router = done("--home", other, "--json", "retrain-router").document
    assert set(router["tasks"]) == {"own", *(name.partition("@")[0] for name in theirs)}
    report = done("--home", other, "--json", "forgetting-report", "--verify").document
    before = done("--home", bank, "--json", "forgetting-report").document
    at_add = {task["task"]: task["at_add"] for task in before["tasks"]}
    for task in report["tasks"]:
        assert task["at_add"] == at_add.get(task["task"], task["at_add"])
        assert task["verdict"]["expert"] == "identical"
    named = ["predict", "--task", "mood", "a good film"]
    ours, here = (done("--home", home, "--json", *named).lines[0] for home in (bank, other))
    assert ours["scores"] == here["scores"]
    assert done("--home", other, "verify").code == 0
    done("--home", other, "gc", "--yes", "--grace", 0)
    assert done("--home", other, "verify").code == 0


def test_statistics_come_in_place_of_features_and_what_is_not_measured_is_said(
    other: Path, bank: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sums"
    refused = call("--home", bank, "--json", "export", out, "--statistics")
    assert refused.code == 2
    done("--home", bank, "export", out, "--for-import", "--statistics")
    assert not (out / "features").exists()
    answer = done("--home", other, "--json", "import", out).document
    names = [expert["task"] for expert in answer["imported"]]
    assert names == ["mood", "poll", "sport"]
    answer = done("--home", other, "--json", "retrain-router")
    router = answer.document
    assert (sorted(router["unmeasured"]), set(router["metrics"]["per_task"])) == (names, {"own"})
    assert set(router["cost"]) == {"read", "add", "solve", "evaluate"}
    assert "no evaluation row is kept of them: mood, poll, sport" in answer.err
    shown = done("--home", other, "--json", "show", "mood").document
    assert shown["statistics"]["digest"] == shown["features"]["digest"]
    assert done("--home", other, "verify").code == 0


def test_lineage_comes_along_and_says_where_from(other: Path, importable: Path, bank: Path) -> None:
    done("--home", other, "import", importable, "--task", "mood")
    here = done("--home", other, "--json", "show", "mood").document["run"]
    there = done("--home", bank, "--json", "show", "mood").document["run"]
    assert here["kind"] == "import"
    assert here["config"]["imported"]["expert"] == "mood@1"
    assert here["config"]["train"] == there["config"]["train"]
    for key in ("seed", "environment", "data", "seconds"):
        assert here[key] == there[key]


def test_importing_again_skips_what_is_here_and_writes_nothing(
    other: Path, importable: Path
) -> None:
    done("--home", other, "import", importable, "--task", "poll")
    again = done("--home", other, "--json", "import", importable).document
    assert [e["id"] for e in again["imported"]] == ["mood@1", "sport@1"]
    assert again["skipped"] == [{"expert": "poll@1", "why": "is poll@1 here"}]
    before = content(other)
    assert done("--home", other, "--json", "import", importable).document["imported"] == []
    assert content(other) == before


def test_a_bank_that_does_not_exist_takes_over_backbone_and_spec(
    importable: Path, tmp_path: Path
) -> None:
    home = tmp_path / "fresh"
    done("--home", home, "import", importable)
    done("--home", home, "retrain-router")
    assert done("--home", home, "predict", "a good film").code == 0


def test_a_bank_that_an_import_makes_claims_its_store(importable: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "files")
    with Bank.open(tmp_path / "bank", store=(tmp_path / "files").as_uri()) as bank:
        bank.import_bundle(importable)
        assert store.owner() == bank.registry.bank_id()


def test_another_expert_of_a_task_needs_new_version(
    other: Path, importable: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 60, seed=4)
    done("--home", other, "add", "--task", "mood", "--data", data, "--epochs", 1)
    before = content(other)
    refused = call("--home", other, "import", importable)
    assert refused.code == 3
    assert "--new-version" in refused.err
    assert content(other) == before
    answer = done("--home", other, "--json", "import", importable, "--new-version").document
    assert "mood@2" in [e["id"] for e in answer["imported"]]


def test_a_removed_task_comes_back_with_the_import_of_a_new_version(
    other: Path, importable: Path
) -> None:
    done("--home", other, "import", importable)
    done("--home", other, "remove", "--task", "mood", "--yes")
    assert call("--home", other, "import", importable).code == 3
    answer = done("--home", other, "--json", "import", importable, "--new-version").document
    assert [e["id"] for e in answer["imported"]] == ["mood@2"]
    assert done("--home", other, "verify").code == 0


def refuses(home: Path, bundle: Path, code: int, *texts: str) -> None:
    before = content(home)
    answer = call("--home", home, "import", bundle)
    assert answer.code == code, answer.err
    for text in texts:
        assert text in answer.err
    assert content(home) == before


def changed(bundle: Path, target: Path, change) -> Path:
    """A copy of a bundle whose manifest was changed by ``change``."""
    shutil.copytree(bundle, target)
    manifest = json.loads((target / "manifest.json").read_text())
    change(manifest)
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def test_what_does_not_fit_is_refused_whole(
    other: Path, importable: Path, made_bank: Path, tmp_path: Path
) -> None:
    refuses(other, made_bank / "bundle", 2, "export --for-import")
    refuses(other, tmp_path / "missing", 10)

    def other_group(manifest):
        manifest["experts"][0]["group"] = "../x"

    def other_kind(manifest):
        manifest["experts"][0]["kind"] = "regression"

    def other_labels(manifest):
        manifest["experts"][1]["labels"] = ["no", "maybe"]

    def other_spec(manifest):
        manifest["feature_spec"]["max_length"] = 17

    def other_backbone(manifest):
        manifest["backbone"]["digest"] = manifest["feature_spec"]["backbone_digest"] = "0" * 64

    def swapped(manifest):
        one, two, *_ = (entry["lineage"] for entry in manifest["experts"])
        one["evidence"] = two["features"]

    def hostile_name(manifest):
        manifest["experts"][0]["task"] = "../../x"

    def no_run(manifest):
        del manifest["experts"][2]["lineage"]["run"]["seed"]

    for number, (change, code) in enumerate(
        (
            (other_group, 2),
            (other_kind, 13),
            (other_labels, 13),
            (other_spec, 2),
            (other_backbone, 13),
            (swapped, 13),
            (hostile_name, 2),
            (no_run, 13),
        )
    ):
        refuses(other, changed(importable, tmp_path / f"b{number}", change), code)


def test_a_task_of_another_kind_is_refused(other: Path, importable: Path, tmp_path: Path) -> None:
    rows = [(text, str(len(text))) for text, _ in task_rows("mood", 60)]
    data = write_csv(tmp_path / "mood.csv", rows, ("text", "label"))
    words = ["--task", "mood", "--data", data, "--epochs", 1, "--kind", "regression"]
    done("--home", other, "add", *words)
    refuses(other, importable, 2, "mood is regression here and classification in the bundle")


def test_a_task_that_is_here_in_another_group_keeps_it_and_the_user_is_told(
    other: Path, importable: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    more = ["--epochs", 1, "--group", "tickets"]
    done("--home", other, "add", "--task", "mood", "--data", data, *more)
    answer = done("--home", other, "import", importable, "--new-version")
    assert "task mood stays in group tickets; it is alone in the bundle" in answer.err
    assert " group --ungroup mood" in answer.err
    assert done("--home", other, "--json", "group").document["groups"] == {"tickets": ["mood"]}
    assert done("--home", other, "verify").code == 0


def test_names_that_add_would_refuse_do_not_come_in_with_a_bundle(
    other: Path, importable: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "late.csv", "mood", 60)
    done("--home", other, "add", "--task", "late", "--data", data, "--epochs", 1)
    taken, router = (
        changed(
            importable,
            tmp_path / name,
            lambda manifest, name=name: manifest["experts"][0].update(group=name),
        )
        for name in ("late", "auto")
    )
    refuses(other, taken, 3, "a task is called late")
    refuses(other, router, 2, "servers call the router auto")
    done("--home", other, "group", "poll", "late")
    refuses(other, importable, 3, "a group is called poll")
    answer = call("--home", tmp_path / "new", "import", router)
    assert answer.code == 2
    assert not (tmp_path / "new").exists()


def test_tasks_of_one_bundle_are_held_against_each_other(
    other: Path, importable: Path, tmp_path: Path
) -> None:
    odd = changed(
        importable, tmp_path / "odd", lambda manifest: manifest["experts"][0].update(group="sport")
    )
    refuses(other, odd, 3, "is called sport")
    assert list(digests(other)) == ["own@1"], "those before it did not come in either"


def test_a_dry_run_writes_nothing(other: Path, importable: Path) -> None:
    before = content(other)
    answer = done("--home", other, "--json", "import", importable, "--dry-run").document
    assert len(answer["imported"]) == 3
    assert content(other) == before


def test_an_ordinary_bundle_carries_no_features(made_bank: Path) -> None:
    assert not (made_bank / "bundle" / "features").exists()
    assert "lineage" not in (made_bank / "bundle" / "manifest.json").read_text()


@pytest.mark.parametrize("inside", ["", "bundle/"])
def test_an_archive_is_read_without_being_unpacked(
    inside: str, importable: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed.zip"
    files = [path for path in sorted(importable.rglob("*")) if path.is_file()]
    names = [inside + path.relative_to(importable).as_posix() for path in files]
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in zip(files, names, strict=True):
            archive.write(path, name)
    home = tmp_path / "fresh"
    answer = done("--home", home, "--json", "import", packed).document
    assert len(answer["imported"]) == 3
    assert {p.name for p in tmp_path.iterdir()} == {packed.name, "fresh"}


def test_a_tar_is_refused_with_what_to_do(other: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(b"whatever is in it")
    refuses(other, packed, 2, "unpack it and name the folder")
