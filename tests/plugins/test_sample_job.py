"""A package from outside brings a kind, a gate, a family, an adapter and a store, and the whole
job is done with them, by the real command in processes of its own; without it, what needs it says
its name.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from environments import Environment
from expertbank_sample.sqlite_store import SqliteStore

pytestmark = pytest.mark.slow

WORDS = ("bad", "fine", "good")
TOPICS = {"grade": ("film", "plot"), "poll": ("vote", "tax")}
FILLERS = ("is", "the", "sky", "a", "of", "river", "bank", "money", "loan")


def write_rows(path: Path, labels: Sequence[str], count: int = 180, seed: int = 0) -> Path:
    """Each label is the word that stands in the text."""
    rng = random.Random(f"{path.stem}{seed}")
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = labels[len(rows) % len(labels)]
        words = [label, *rng.choices(TOPICS[path.stem], k=3), *rng.choices(FILLERS, k=3)]
        rows.setdefault(" ".join(rng.sample(words, len(words))), label)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows.items()])
    return path


TEXTS = ("film plot film is the good", "bad plot film of a", "vote tax yes sky a")


@pytest.fixture(scope="module")
def made(installed: Environment, backbone_folder: Callable[[str], Path], tmp_path_factory) -> Path:
    """A bank in the sample's store, and one in its own folder that imported its experts."""
    folder = tmp_path_factory.mktemp("made")
    backbone = backbone_folder("mpnet")
    bank, other = ("--home", folder / "bank"), ("--home", folder / "other")
    store = f"sample://{folder}/blobs.db"
    made = installed.json(*bank, "init", "--backbone", backbone, "--store", store)
    assert made["store"] == store
    grade, poll = (
        write_rows(folder / "grade.csv", WORDS),
        write_rows(folder / "poll.csv", ("no", "yes")),
    )
    task = ("add", "--epochs", 4, "--task")
    theirs = ("--kind", "ordinal", "--adapter", "share-lora", "--rank", 3)
    added = installed.json(*bank, *task, "grade", "--data", grade, *theirs)
    assert (added["adapter"]["kind"], added["adapter"]["rank"]) == ("share-lora", 3)
    assert added["metrics"]["mean_rank_error"] < 0.5
    assert added["metrics"]["p_beats_majority"] < 0.05
    installed.run(*bank, *task, "poll", "--data", poll)
    knn = ("retrain-router", "--kind", "knn", "--set", "neighbours=2")
    assert installed.json(*bank, *knn)["router"]["kind"] == "knn"
    installed.run(*bank, "export", folder / "bundle", "--for-import")
    installed.run(*other, "init", "--backbone", backbone)
    installed.run(*other, "import", folder / "bundle")
    installed.run(*other, *knn)
    return folder


def test_the_plugins_are_there_and_nothing_is_wrong_with_them(
    installed: Environment, made: Path
) -> None:
    assert "knn" in installed.run("retrain-router", "--help")
    assert installed.json("--home", made / "bank", "doctor")["healthy"]


def test_bank_and_bundle_answer_and_measure_alike(installed: Environment, made: Path) -> None:
    (made / "new").mkdir()
    new = write_rows(made / "new" / "grade.csv", WORDS, 30, seed=1)
    answers, measured = [], []
    for place in (("--home", made / "bank"), ("--bundle", made / "bundle")):
        answers.append(installed.lines("predict", *place, *TEXTS))
        measured.append(installed.json("evaluate", *place, "--task", "grade", "--data", new))
    assert answers[0] == answers[1]
    assert measured[0] == measured[1]
    assert [line["task"] for line in answers[0]] == ["grade", "grade", "poll"]
    for line in answers[0][:2]:
        assert list(line["scores"]) == list(WORDS)
        assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert measured[0]["oracle"] > 0.6
    assert measured[0]["per_label"].keys() == set(WORDS)


def test_the_report_computes_every_row_again(installed: Environment, made: Path) -> None:
    report = installed.json("--home", made / "bank", "forgetting-report", "--verify")
    assert report["weights_unchanged"]
    found = report["verification"]["grade"]
    assert found["rows"] == found["of"]
    assert found["max_logit_difference"] == 0
    assert {line["metric"] for line in report["tasks"]} == {"accuracy"}


def test_the_store_is_collected_and_stays_whole(installed: Environment, made: Path) -> None:
    bank, store = ("--home", made / "bank"), SqliteStore(f"sample://{made}/blobs.db")
    left = store.put(b"what an add that was killed left")
    with sqlite3.connect(store.path) as file:
        file.execute("UPDATE blobs SET put = 0 WHERE digest = ?", (left,))
    installed.run(*bank, "gc", "--yes")
    assert store.state(left) is None
    assert installed.json(*bank, "verify")["artifacts"] == len(list(store.digests()))
    assert not (made / "bank" / "objects").exists()


# -- where the package is not installed ---------------------------------------------------------


def test_a_bank_opens_lists_and_verifies_without_them(
    without: Environment, made: Path, tmp_path: Path
) -> None:
    bank = ["--home", str(made / "other")]
    words = ["list", "--json list", "show grade", "show router@1", "history", "verify"]
    words += ["gc --dry-run", f"db backup {tmp_path}/backup.db"]
    for code, said in without.each(*([*bank, *one.split()] for one in words)):
        assert code == 0, said
        assert said
    assert (tmp_path / "backup.db").is_file()


def test_what_needs_one_of_them_says_its_name_and_what_to_install(
    without: Environment, made: Path, tmp_path: Path
) -> None:
    bank = ["--home", str(made / "other")]
    missing = {
        "predict text --task grade": "no task kind named 'ordinal'",
        "predict text": "no gate named 'knn'",
        "forgetting-report": "no task kind named 'ordinal'",
        f"export {tmp_path}/bundle --task grade": "no gate named 'knn'",
        f"import {made}/bundle": "no task kind named 'ordinal'",
    }
    told = without.each(*([*bank, *words.split()] for words in missing))
    for (code, said), name in zip(told, missing.values(), strict=True):
        assert code == 10, said
        assert name in said
        assert "install that package (entry point expertbank." in said
        assert "Traceback" not in said


def test_a_router_of_our_own_needs_no_kind_and_what_does_still_says_which(
    without: Environment, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "other", tmp_path / "other")
    bank = ("--home", tmp_path / "other")
    without.run(*bank, "retrain-router")
    said = without.run(*bank, "export", tmp_path / "bundle", "--task", "grade", code=10)
    assert "no task kind named 'ordinal'" in said


def test_without_the_family_its_modules_are_found_by_trying(
    without: Environment, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "other", tmp_path / "other")
    add = ("--home", tmp_path / "other", "--json", "add", "--task", "more", "--epochs", 1)
    told = json.loads(without.run(*add, "--data", made / "poll.csv"))
    assert told["expert"]["adapter_params"] > 0


def test_doctor_says_what_is_missing(without: Environment, made: Path) -> None:
    answer = json.loads(without.run("--home", made / "other", "--json", "doctor", code=1))
    found = {one["subject"]: one for one in answer["findings"] if one["state"] == "problem"}
    assert found.keys() == {"task kind ordinal", "adapter kind share-lora", "gate knn"}
    assert "grade@1 needs it" in found["adapter kind share-lora"]["found"]
    assert "task grade needs it" in found["task kind ordinal"]["found"]
    assert "entry point expertbank.gates" in found["gate knn"]["todo"]


def test_a_task_of_our_own_kind_is_still_answered_when_it_is_named(
    without: Environment, made: Path
) -> None:
    (line,) = without.lines("--home", made / "other", "predict", TEXTS[2], "--task", "poll")
    assert line["expert"] == "poll@1"
    said = without.run("predict", "--bundle", made / "bundle", TEXTS[0], code=10)
    assert "no gate named 'knn'" in said


def test_a_bank_whose_store_is_missing_lists_and_says_which_one(
    without: Environment, made: Path, tmp_path: Path
) -> None:
    bank = ("--home", made / "bank")
    for words in ("list", f"db backup {tmp_path}/backup.db"):
        without.run(*bank, *words.split())
    for words in ("verify", "predict text --task poll", "retrain-router"):
        said = without.run(*bank, *words.split(), code=10)
        assert "no store named 'sample'" in said
        assert "entry point expertbank.stores" in said


# -- packages that bring what cannot be used ------------------------------------------------------

BROKEN = """
from expertbank.backbones.families import Family
from expertbank.kinds import Kind


class Half(Kind):
    name = "half"
"""
POINTS = """
[expertbank.kinds]
half = broken_plugin:Half
gone = broken_plugin:GONE
regression = broken_plugin:Half

[expertbank.gates]
absent = no_such_module:GATE

[expertbank.families]
mpnet = broken_plugin:Family
"""


@pytest.fixture(scope="module")
def broken(environment: Callable[[], Environment]) -> Environment:
    """An environment with a package whose plugins are half, gone, absent or taken."""
    made = environment()
    folder = made.packages / "broken_plugin-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(POINTS)
    (made.packages / "broken_plugin.py").write_text(BROKEN)
    return made


def test_doctor_lists_refused_plugins_with_package_and_reason(
    broken: Environment, tmp_path: Path
) -> None:
    answer = broken.json("--home", tmp_path / "none", "doctor")
    found = {one["subject"]: one for one in answer["findings"] if "broken-plugin" in one["todo"]}
    reasons = {
        "task kind half": "'half' of package broken-plugin lacks objective; it was not added",
        "task kind gone": "has no attribute 'GONE'",
        "task kind regression": "'regression' is the name of one of expertbank's own",
        "gate absent": "No module named 'no_such_module'",
        "family mpnet": "is a class where an object of it belongs",
    }
    assert found.keys() == reasons.keys()
    assert all(why in found[subject]["found"] for subject, why in reasons.items())
    assert {one["state"] for one in found.values()} == {"warning"}


def test_a_broken_plugin_is_refused_by_name_and_spoils_nothing_else(
    broken: Environment, backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    bank = ("--home", tmp_path / "bank")
    poll = write_rows(tmp_path / "poll.csv", ("no", "yes"))
    add = (*bank, "add", "--epochs", 1, "--backbone", backbone_folder("bert"), "--data", poll)
    half = broken.run(*add, "--task", "poll", "--kind", "half", code=2)
    assert "'half' of package broken-plugin lacks objective" in half
    assert not (tmp_path / "bank").exists()
    broken.run(*add, "--task", "poll")
    absent = broken.run(*bank, "retrain-router", "--kind", "absent", code=2)
    assert "'absent' of package broken-plugin cannot be loaded" in absent
    broken.run(*bank, "retrain-router")
    assert broken.lines(*bank, "predict", TEXTS[2])[0]["task"] == "poll"
