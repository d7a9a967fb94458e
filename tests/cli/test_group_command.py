"""Grouping after the fact: no expert is trained again, and every router keeps its own groups."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import call, content, done, task_rows, write_task
from small_tasks import choice_rows, ticket_rows, write_jsonl, write_rows

from expertbank import Bank
from expertbank.serving.asking import AUTO
from expertbank.serving.from_bank import BankSource
from expertbank.workflows.growing.grouping import ROUTED

MOOD, PACE = 1, 2


@pytest.fixture(scope="session")
def made_apart(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks on the same texts and one beside them, all alone, and router@1; never write."""
    folder = tmp_path_factory.mktemp("apart")
    start = ["--home", folder / "bank", "add", "--epochs", 3, "--backbone", backbone_folder("bert")]
    for task, place in (("mood", MOOD), ("pace", PACE)):
        rows = [(row[0], row[place]) for row in ticket_rows(120)]
        data = write_rows(folder / f"{task}.csv", rows, ("text", "label"))
        done(*start, "--task", task, "--data", data)
    done(*start, "--task", "poll", "--data", write_task(folder / "poll.csv", "poll"))
    done("--home", folder / "bank", "retrain-router")
    return folder


@pytest.fixture(scope="session")
def made_regrouped(made_apart: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bank with ``mood`` and ``pace`` in a group, and router@2; never write."""
    home = tmp_path_factory.mktemp("regrouped") / "bank"
    shutil.copytree(made_apart / "bank", home)
    done("--home", home, "group", "tickets", "mood", "pace")
    done("--home", home, "retrain-router")
    return home


@pytest.fixture
def apart(made_apart: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_apart / "bank", tmp_path / "bank")
    return tmp_path / "bank"


@pytest.fixture
def regrouped(made_regrouped: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_regrouped, tmp_path / "regrouped")
    return tmp_path / "regrouped"


def ask(home: Path, *words: object) -> Any:
    return done("--home", home, "--json", *words).document


def answers(home: Path, tmp_path: Path) -> list[Any]:
    rows = [{"text": row[0]} for row in ticket_rows(30, seed=5)]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    return done("--home", home, "--json", "predict", "--file", file).lines


def models(home: Path) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    """What a server of the bank offers: names with group and tasks."""
    with Bank.open(home, read_only=True) as bank:
        state = BankSource(bank).load(None)
    return {model.name: (model.group, model.tasks) for model in state.models}


def test_a_router_of_the_group_sends_rows_home_and_no_expert_was_trained_again(
    apart: Path, tmp_path: Path
) -> None:
    before = ask(apart, "list")
    confused = ask(apart, "show", "active")["router"]["metrics"]
    assert [one["tasks"] for one in confused["confusions"]] == [["mood", "pace"]]
    done("--home", apart, "group", "tickets", "mood", "pace")
    routed = ask(apart, "retrain-router")
    assert routed["old_texts_read"] == 0
    assert routed["metrics"]["confusions"] == []
    assert all(value > 0.9 for value in routed["metrics"]["per_task"].values())
    after = ask(apart, "list")
    own = [[(e["id"], e["digest"]) for e in found["experts"]] for found in (before, after)]
    assert own[0] == own[1]
    assert [one["group"] for one in after["experts"]] == ["tickets", "tickets", None]
    for line in answers(apart, tmp_path):
        assert {answer["task"] for answer in line.get("answers", [])} in ({"mood", "pace"}, set())


def test_until_the_next_router_everything_is_answered_as_before_and_the_user_is_told(
    apart: Path, tmp_path: Path
) -> None:
    before, offered = answers(apart, tmp_path), models(apart)
    answer = done("--home", apart, "group", "tickets", "mood", "pace")
    assert "router@1 was fitted with other groups" in answer.err
    assert " retrain-router" in answer.err
    assert answers(apart, tmp_path) == before
    assert models(apart) == offered
    stale = [
        {"task": "mood", "before": None, "now": "tickets"},
        {"task": "pace", "before": None, "now": "tickets"},
    ]
    for words in (["list"], ["group"], ["show", "active"]):
        assert ask(apart, *words)["stale"]["tasks"] == stale, words
    assert ask(apart, "show", "mood")["stale"]["now"] == "tickets"
    assert ask(apart, "show", "poll")["stale"] is None
    for words in (["list"], ["group"], ["show", "mood"], ["show", "active"], ["tasks"]):
        assert " retrain-router" in done("--home", apart, *words).err, words
    done("--home", apart, "retrain-router")
    assert ask(apart, "list")["stale"]["tasks"] == []
    assert done("--home", apart, "list").err == ""
    assert models(apart)["tickets"] == (None, ("mood", "pace"))


def test_the_router_may_be_refitted_in_the_same_command(apart: Path) -> None:
    found = ask(apart, "group", "tickets", "mood", "pace", "--retrain-router")
    assert found["router"]["router"]["version"] == 2
    assert found["todo"] == ""
    assert ask(apart, "show", "active")["router"]["groups"] == {"tickets": ["mood", "pace"]}


def test_the_report_tells_what_the_grouping_did_and_what_the_router(regrouped: Path) -> None:
    for words in ([], ["--from", "router@1", "--to", "router@2"], ["--verify"]):
        report = ask(regrouped, "forgetting-report", *words)
        lines = {line["task"]: line for line in report["tasks"]}
        for task in ("mood", "pace"):
            line = lines[task]
            assert line["regrouped"] == {"before": [task], "now": ["mood", "pace"], "counted": True}
            assert line["routed_before"] > line["routed_at_add"] + 0.2
            assert line["difference"] == pytest.approx(line["routed"] - line["routed_before"])
            assert abs(line["difference"]) <= line["flip_rate"] + 1e-9
            place = list(lines).index(task)
            assert report["matrix"][0][place] == line["routed_before"]
            assert report["matrix_as_served"][0][place] == line["routed_at_add"]
        assert lines["poll"]["regrouped"] is None
        assert report["regrouped_routers"] == [1]
        assert report["lineage"]["routers"][1]["groups"] == {"tickets": ["mood", "pace"]}
    told = " ".join(done("--home", regrouped, "forgetting-report").out.split())
    assert "under router@2 mood and pace answer together; before, mood and pace each" in told
    assert "show what the router did and not the grouping" in told
    assert ask(regrouped, "forgetting-report", "--to", "router@1")["regrouped_routers"] == []


def test_taking_tasks_apart_again_brings_the_old_router_back_and_its_loss_is_not_hidden(
    regrouped: Path,
) -> None:
    found = ask(regrouped, "group", "--ungroup", "mood", "pace", "--retrain-router")
    assert found["group"] is None
    assert [move["before"] for move in found["moved"]] == ["tickets", "tickets"]
    assert found["router"]["router"]["version"] == 1, "the same experts, each alone, as at first"
    words = ["forgetting-report", "--from", "router@2", "--to", "router@1"]
    report = ask(regrouped, *words)
    lines = {line["task"]: line for line in report["tasks"]}
    for task in ("mood", "pace"):
        assert lines[task]["regrouped"]["counted"] is False
        assert lines[task]["routed_before"] == lines[task]["routed_at_add"]
        assert -lines[task]["difference"] <= lines[task]["flip_rate"] + 1e-9
    lost = [task for task in lines if lines[task]["verdict"]["routed"] == "lost"]
    assert lost
    told = " ".join(done("--home", regrouped, *words).out.split())
    assert "cannot be counted by the present groups" in told
    assert call("--home", regrouped, *words, "--fail-on", "lost").code == 5


def test_equal_choices_under_other_groups_are_counted_by_the_groups_of_their_router(
    regrouped: Path,
) -> None:
    """Most of mood's rows go to the group before and after it leaves: right, and then wrong."""
    done("--home", regrouped, "group", "tickets", "poll")
    done("--home", regrouped, "retrain-router")
    done("--home", regrouped, "group", "alone", "mood")
    done("--home", regrouped, "group", "tickets", "pace", "poll")
    done("--home", regrouped, "retrain-router")
    with Bank.open(regrouped, read_only=True) as bank:
        for version in (1, 2, 3, 4):
            report = bank.forgetting_report(to_router=version)
            record = bank.registry.router(version)
            for line in report.tasks:
                (stored,) = bank.registry.evaluations(line.expert, router_version=version)
                assert line.routed == pytest.approx(stored.correct / stored.n)
            assert report.weights_unchanged
            assert set(record.group_of) <= {"mood", "pace", "poll"}
    assert done("--home", regrouped, "verify").code == 0
    assert done("--home", regrouped, "forgetting-report", "--verify").code == 0


def test_a_group_gets_another_name_with_the_next_router(regrouped: Path) -> None:
    done("--home", regrouped, "group", "desk", "mood", "pace")
    assert set(models(regrouped)) == {AUTO, "mood", "pace", "poll", "tickets"}
    routed = ask(regrouped, "retrain-router")
    assert routed["router"]["version"] == 3
    assert set(models(regrouped)) == {AUTO, "mood", "pace", "poll", "desk"}
    assert ask(regrouped, "forgetting-report")["regrouped_routers"] == [1]
    assert ask(regrouped, "list")["routers"][1]["groups"] == {"tickets": ["mood", "pace"]}


def test_history_tells_every_change_and_nothing_where_none_was(regrouped: Path) -> None:
    done("--home", regrouped, "group", "desk", "mood")
    answer = ask(regrouped, "group", "desk", "mood")
    assert (answer["moved"], answer["already"]) == ([], ["mood"])
    done("--home", regrouped, "group", "--ungroup", "pace", "poll")
    events = [e for e in ask(regrouped, "history")["events"] if e["kind"] == "task-grouped"]
    assert [event["text"] for event in events] == [
        "task mood put into group tickets",
        "task pace put into group tickets",
        "task mood put into group desk, out of group tickets",
        "task pace taken out of group tickets",
    ]


def test_a_dry_run_says_the_same_and_writes_nothing(apart: Path) -> None:
    before = content(apart)
    looked = ask(apart, "group", "tickets", "mood", "pace", "--dry-run")
    assert content(apart) == before
    moved = ask(apart, "group", "tickets", "mood", "pace")
    assert looked == {**moved, "dry_run": True}
    assert moved["moved"] == [
        {"task": "mood", "before": None, "now": "tickets"},
        {"task": "pace", "before": None, "now": "tickets"},
    ]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["tickets", "mood", "nobody"], 10, "nobody"),
        (["--ungroup", "moood"], 10, "did you mean mood"),
        (["tickets"], 2, "name the tasks too"),
        (["--ungroup"], 2, "name the tasks"),
        (["--dry-run"], 2, "name the group"),
        (["Two Words", "mood"], 2, "bad group name"),
        (["../up", "mood"], 2, "bad group name"),
        (["", "mood"], 2, "bad group name"),
        ([ROUTED, "mood"], 2, "servers call the router auto"),
        (["poll", "mood"], 3, "a task is called poll"),
        (["mood", "mood"], 3, "a task is called mood"),
    ],
)
def test_what_cannot_be_is_refused_with_its_code_and_nothing_is_written(
    apart: Path, words: list[str], code: int, told: str
) -> None:
    before = content(apart)
    answer = call("--home", apart, "group", *words)
    assert (answer.code, answer.out) == (code, "")
    assert told in answer.err
    assert answer.err.count("\n") == 1
    assert content(apart) == before


def test_the_name_that_nothing_may_have_is_what_servers_call_the_router(
    apart: Path, tmp_path: Path
) -> None:
    assert ROUTED == AUTO
    data, before = write_task(tmp_path / "mood.csv", "mood", 40), content(apart)
    for home in (apart, tmp_path / "new"):
        answer = call("--home", home, "add", "--task", AUTO, "--data", data)
        assert answer.code == 2
        assert "servers call the router auto" in answer.err
    assert content(apart) == before
    assert not (tmp_path / "new").exists()


def test_a_removed_task_joins_no_group_and_comes_back_into_its_own(
    regrouped: Path, made_apart: Path
) -> None:
    done("--home", regrouped, "remove", "--task", "pace", "--yes")
    answer = call("--home", regrouped, "group", "desk", "pace")
    assert answer.code == 10
    assert "was removed" in answer.err
    add = ["--home", regrouped, "add", "--task", "pace", "--data", made_apart / "pace.csv"]
    done(*add, "--epochs", 1, "--new-version", "--retrain-router")
    assert ask(regrouped, "show", "active")["router"]["groups"] == {"tickets": ["mood", "pace"]}


def test_tasks_that_read_no_rows_in_common_cannot_be_grouped(apart: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "pick.jsonl", choice_rows(40))
    words = ["--task", "pick", "--data", data, "--choices-column", "choices", "--epochs", 1]
    done("--home", apart, "add", *words)
    before = content(apart)
    for tasks in (["mood", "pick"], ["pick", "mood"]):
        answer = call("--home", apart, "group", "tickets", *tasks)
        assert answer.code == 2
        assert "cannot answer the same rows" in answer.err
        assert content(apart) == before


def test_pairs_and_single_texts_cannot_be_grouped(apart: Path, tmp_path: Path) -> None:
    rows = [(text, f"so {n % 5}", label) for n, (text, label) in enumerate(task_rows("poll", 60))]
    data = write_rows(tmp_path / "both.csv", rows, ("premise", "hypothesis", "label"))
    add = ["--home", apart, "add", "--epochs", 1, "--data", data, "--task"]
    done(*add, "both")
    done("--home", apart, "group", "desk", "mood")
    before = content(apart)
    named = ["--text-column", "premise", "--pair-column", "hypothesis", "--group", "desk"]
    for words in (
        ["--home", apart, "group", "tickets", "mood", "both"],
        ["--home", apart, "group", "tickets", "both", "mood"],
        [*add, "more", *named],
    ):
        answer = call(*words)
        assert answer.code == 2
        assert "task of single texts" in answer.err
        assert "task of pairs of texts" in answer.err
        assert "leave one of them out of the group" in answer.err
        assert content(apart) == before


def test_a_new_version_reads_what_the_tasks_of_its_group_read(apart: Path, tmp_path: Path) -> None:
    rows = [(text, f"so {n % 5}", label) for n, (text, label) in enumerate(task_rows("poll", 60))]
    data = write_rows(tmp_path / "both.csv", rows, ("premise", "hypothesis", "label"))
    named = ["--text-column", "premise", "--pair-column", "hypothesis", "--new-version"]
    add = ["--home", apart, "add", "--epochs", 1, "--data", data, *named, "--task"]
    done("--home", apart, "group", "tickets", "mood", "pace")
    done(*add, "poll")
    before = content(apart)
    for words in (
        [*add, "pace"],
        ["--home", apart, "group", "tickets", "poll"],  # which was a task of single texts at first
    ):
        answer = call(*words)
        assert answer.code == 2
        assert "group tickets holds mood, a task of single texts" in answer.err
        assert "is a task of pairs of texts" in answer.err
        assert content(apart) == before
    done("--home", apart, "remove", "--task", "mood", "--yes")
    done("--home", apart, "remove", "--task", "pace", "--yes")
    done("--home", apart, "group", "tickets", "poll")
    same = ["--home", apart, "add", "--epochs", 1, "--new-version", "--task", "mood", "--data"]
    answer = call(*same, write_task(tmp_path / "mood.csv", "mood", 40))
    assert answer.code == 2, "a removed task comes back into its group only where it fits"
    assert "group tickets holds poll, a task of pairs of texts" in answer.err


def test_a_bundle_brings_no_pairs_into_a_group_of_single_texts(
    apart: Path, made_apart: Path, tmp_path: Path
) -> None:
    rows = [(text, f"so {n % 5}", label) for n, (text, label) in enumerate(task_rows("poll", 60))]
    data = write_rows(tmp_path / "both.csv", rows, ("premise", "hypothesis", "label"))
    other, bundle = tmp_path / "other", tmp_path / "bundle"
    shutil.copytree(made_apart / "bank", other)
    add = ["--home", other, "add", "--epochs", 1, "--data", data, "--task", "both"]
    done(*add, "--group", "tickets", "--retrain-router")
    done("--home", other, "export", bundle, "--for-import")
    done("--home", apart, "group", "tickets", "mood")
    before = content(apart)
    for words in ([], ["--dry-run"]):
        answer = call("--home", apart, "import", bundle, *words)
        assert answer.code == 2
        assert "group tickets holds mood, a task of single texts; both is a task of" in answer.err
        assert content(apart) == before


def test_an_import_says_which_group_of_the_bank_its_tasks_join(
    apart: Path, made_apart: Path, tmp_path: Path
) -> None:
    other, bundle = tmp_path / "other", tmp_path / "bundle"
    shutil.copytree(made_apart / "bank", other)
    data = write_task(tmp_path / "late.csv", "poll", 40)
    add = ["--home", other, "add", "--epochs", 1, "--data", data, "--group", "tickets", "--task"]
    done(*add, "late")
    done(*add, "later", "--retrain-router")
    done("--home", other, "export", bundle, "--for-import")
    done("--home", apart, "import", bundle, "--task", "late")
    assert ask(apart, "import", bundle, "--dry-run")["remarks"] == [], "its own group"
    done("--home", apart, "group", "tickets", "mood", "pace")
    for words in (["--dry-run"], []):
        (remark,) = ask(apart, "import", bundle, *words)["remarks"]
        assert "group tickets has mood, pace here; later of the bundle's group" in remark
        assert " group --ungroup later" in remark
    assert ask(apart, "group")["groups"] == {"tickets": ["late", "later", "mood", "pace"]}


def test_add_takes_no_name_that_a_group_or_task_has(regrouped: Path, tmp_path: Path) -> None:
    before = content(regrouped)
    data = ["--data", write_task(tmp_path / "poll.csv", "poll", 40), "--epochs", 1]
    for words in (["--task", "tickets"], ["--task", "new", "--group", "poll"]):
        answer = call("--home", regrouped, "add", *words, *data)
        assert answer.code == 3
        assert "called" in answer.err
        assert content(regrouped) == before
    done("--home", regrouped, "add", "--task", "size", *data, "--group", "tickets")
    assert ask(regrouped, "group")["groups"] == {"tickets": ["mood", "pace", "size"]}


def test_a_bundle_has_the_groups_of_its_router_and_an_import_takes_them_over(
    apart: Path, tmp_path: Path
) -> None:
    done("--home", apart, "group", "tickets", "mood", "pace")

    def shipped(name: str) -> dict[str, str | None]:
        done("--home", apart, "export", tmp_path / name, "--for-import")
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        return {entry["task"]: entry["group"] for entry in manifest["experts"]}

    assert shipped("before") == {"mood": None, "pace": None, "poll": None}
    done("--home", apart, "retrain-router")
    assert shipped("after") == {"mood": "tickets", "pace": "tickets", "poll": None}
    text = ticket_rows(1, seed=9)[0][0]
    (line,) = done("predict", "--bundle", tmp_path / "after", text, "--json").lines
    assert {answer["task"] for answer in line["answers"]} == {"mood", "pace"}
    (line,) = done("predict", "--bundle", tmp_path / "before", text, "--json").lines
    assert "answers" not in line
    other = tmp_path / "other"
    done("--home", other, "import", tmp_path / "after")
    assert ask(other, "group")["groups"] == {"tickets": ["mood", "pace"]}
    done("--home", other, "retrain-router")
    assert ask(other, "show", "active")["router"]["groups"] == {"tickets": ["mood", "pace"]}


def test_python_groups_and_ungroups_too(apart: Path) -> None:
    with Bank.open(apart) as bank:
        done_so = bank.group("tickets", ["mood", "pace"])
        assert [move.task for move in done_so.moved] == ["mood", "pace"]
        assert "retrain-router" in done_so.todo
        assert bank.retrain_router().router.groups == {"tickets": ("mood", "pace")}
        assert bank.ungroup("pace", dry_run=True).moved[0].before == "tickets"
        assert bank.ungroup("pace").moved[0].now is None
        assert {task.name: task.group for task in bank.tasks()} == {
            "mood": "tickets",
            "pace": None,
            "poll": None,
        }


def test_a_group_is_named_as_a_task_is_and_all_its_tasks_answer(
    regrouped: Path, apart: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    done("--home", regrouped, "export", bundle)
    text = ticket_rows(1, seed=9)[0][0]
    for words in (["--home", regrouped, "predict"], ["predict", "--bundle", bundle]):
        (line,) = done(*words, text, "--task", "tickets", "--json").lines
        assert {answer["task"] for answer in line["answers"]} == {"mood", "pace"}
        for answer in line["answers"]:
            (alone,) = done(*words, text, "--task", answer["task"], "--json").lines
            assert answer == {key: alone[key] for key in answer}
        shown = done(*words, text, "--task", "tickets").out.splitlines()[2:]
        assert [row.split()[:2] for row in shown] == [["0", "mood"], ["0", "pace"]]
        for option in ("--task", "--fallback"):
            assert call(*words, text, option, "nowhere").code == 10
        assert call(*words, text, "--fallback", "tickets").code == 10
    with Bank.open(regrouped, read_only=True) as bank:
        (found,) = bank.predict([text], task="tickets")
        assert [answer.task for answer in found.answers] == ["mood", "pace"]
    done("--home", apart, "group", "tickets", "mood", "pace")
    assert call("--home", apart, "predict", text, "--task", "tickets").code == 10
