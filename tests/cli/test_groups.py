"""Tasks on the same texts: in a group all of them answer, without one they confuse the router."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import call, content, done, write_task
from safetensors.numpy import load
from small_tasks import choice_rows, ticket_rows, value_rows, write_jsonl, write_rows

from expertbank.files.header import read_header

MOOD, PACE = 1, 2


def write_ticket(path: Path, place: int, count: int = 120, seed: int = 0) -> Path:
    rows = [(row[0], row[place]) for row in ticket_rows(count, seed)]
    return write_rows(path, rows, ("text", "label"))


@pytest.fixture(scope="session")
def made_group(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of the group ``tickets`` and one beside it; never write to it."""
    folder = tmp_path_factory.mktemp("group")
    home = folder / "bank"
    start = ["--home", home, "add", "--epochs", 3, "--backbone", backbone_folder("bert")]
    group = ["--group", "tickets"]
    done(*start, "--task", "mood", "--data", write_ticket(folder / "mood.csv", MOOD), *group)
    done(*start, "--task", "poll", "--data", write_task(folder / "poll.csv", "poll"))
    done("--home", home, "retrain-router")
    done(*start, "--task", "pace", "--data", write_ticket(folder / "pace.csv", PACE), *group)
    done("--home", home, "retrain-router")
    done("--home", home, "export", folder / "bundle")
    return folder


@pytest.fixture
def group(made_group: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_group / "bank", tmp_path / "group")
    return tmp_path / "group"


def test_every_expert_of_the_group_answers_its_texts_and_others_answer_alone(
    made_group: Path, tmp_path: Path
) -> None:
    tickets = [{"text": row[0]} for row in ticket_rows(30, seed=5)]
    polls = [{"text": "vote law tax yes"}, {"text": "party no vote the law"}]
    file = write_jsonl(tmp_path / "rows.jsonl", [*tickets, *polls])
    found = [
        done("predict", *place, "--file", file, "--json").lines
        for place in (["--home", made_group / "bank"], ["--bundle", made_group / "bundle"])
    ]
    assert found[0] == found[1], "bank and bundle agree"
    of_group = [line for line in found[0] if "answers" in line]
    assert len([line for line in found[0][:30] if "answers" in line]) >= 27
    for line in of_group:
        answers = {answer["task"]: answer for answer in line["answers"]}
        assert len(line["answers"]) == len(answers) == 2
        assert set(answers) == {"mood", "pace"}
        assert set(answers["mood"]["scores"]) == {"bad", "good"}
        assert set(answers["pace"]["scores"]) == {"dark", "light"}
        first = {key: value for key, value in line.items() if key != "answers"}
        assert first == line["answers"][0]
        for answer in line["answers"]:
            assert (answer["index"], answer["confidence"]) == (line["index"], line["confidence"])
            assert answer["expert"] == f"{answer['task']}@1"
    for line in found[0][30:]:
        assert line["task"] == "poll"
        assert "answers" not in line


def test_in_a_group_each_answers_as_when_it_is_named(made_group: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [{"text": r[0]} for r in ticket_rows(40, seed=6)])
    home = ["--home", made_group / "bank", "--json"]
    together = done(*home, "predict", "--file", file).lines
    for task in ("mood", "pace"):
        named = done(*home, "predict", "--file", file, "--task", task).lines
        for line, alone in zip(together, named, strict=True):
            assert "answers" not in alone
            for answer in line.get("answers", []):
                if answer["task"] == task:
                    assert answer["label"] == alone["label"]
                    assert answer["scores"] == pytest.approx(alone["scores"], abs=1e-4)


def test_more_group_rows_than_one_chunk_keep_their_order(made_group: Path, tmp_path: Path) -> None:
    texts = [row[0] for row in ticket_rows(100, seed=7)] + ["vote law tax yes"]
    rows = [{"text": texts[place % 101]} for place in range(1200)]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    lines = done("--home", made_group / "bank", "--json", "predict", "--file", file).lines
    assert [line["index"] for line in lines] == list(range(1200))
    for line in lines:
        assert {answer["index"] for answer in line.get("answers", [])} <= {line["index"]}
        again = lines[line["index"] % 101]
        assert (line["task"], line["label"]) == (again["task"], again["label"])


def test_the_report_counts_a_row_right_only_by_its_own_tasks_answer(group: Path) -> None:
    from expertbank import Bank

    report = done("--home", group, "--json", "forgetting-report", "--verify").document
    lines = {line["task"]: line for line in report["tasks"]}
    with Bank.open(group, read_only=True) as bank:
        assert {"mood", "pace"} in [{m.task for m in column} for column in columns_of(bank, 2)]
        for task in ("mood", "pace", "poll"):
            (oracle,) = bank.registry.evaluations(f"{task}@1", router_version="oracle")
            stored = load(_object(group, oracle.artifact_digest).read_bytes())
            right = stored["logits"].argmax(1) == stored["targets"]
            own = "poll" if task == "poll" else "group:tickets"
            for version in (1, 2):
                for routed in bank.registry.evaluations(f"{task}@1", router_version=version):
                    data = _object(group, routed.artifact_digest).read_bytes()
                    chosen = read_header(data, "choices").metadata["chosen"]
                    choice = load(data)["choice"]
                    hit = [r and chosen[c] == own for r, c in zip(right, choice, strict=True)]
                    row = report["matrix"][report["routers"].index(version)]
                    assert row[list(lines).index(task)] == pytest.approx(sum(hit) / len(hit))
    # pace joined the group later: what mood's rows were sent to is still mood's column.
    assert lines["mood"]["flip_rate"] <= 0.1
    assert lines["mood"]["oracle"] != lines["pace"]["oracle"], "they err on different rows"


def columns_of(bank, version: int):
    from expertbank.routing.router import Router

    record = bank.registry.router(version)
    data = bank._workspace.store.get(record.digest)
    return Router.from_bytes(data, "router").columns


def _object(home: Path, digest: str) -> Path:
    return home / "objects" / digest[:2] / f"{digest}.safetensors"


def test_evaluate_takes_the_tasks_own_answer_of_the_group(made_group: Path, tmp_path: Path) -> None:
    rows = ticket_rows(60, seed=8)
    file = write_jsonl(tmp_path / "rows.jsonl", [{"text": row[0]} for row in rows])
    for place in (["--home", made_group / "bank"], ["--bundle", made_group / "bundle"]):
        lines = done("predict", *place, "--file", file, "--json").lines
        for task, column in (("mood", MOOD), ("pace", PACE)):
            data = write_ticket(tmp_path / f"{task}.csv", column, 60, seed=8)
            result = done("evaluate", *place, "--task", task, "--data", data, "--json").document
            right, reached = 0, 0
            for row, line in zip(rows, lines, strict=True):
                own = [a for a in line.get("answers", [line]) if a["task"] == task]
                reached += bool(own)
                right += bool(own) and own[0]["label"] == row[column]
            assert result["routed"] == pytest.approx(right / 60)
            assert result["routed_to_task"] == pytest.approx(reached / 60)


def test_a_bundle_of_one_task_of_the_group_answers_with_that_alone(
    group: Path, tmp_path: Path
) -> None:
    done("--home", group, "export", tmp_path / "part", "--task", "mood", "--task", "poll")
    text = ticket_rows(1, seed=9)[0][0]
    (line,) = done("predict", "--bundle", tmp_path / "part", text, "--json").lines
    assert line["task"] == "mood"
    assert "answers" not in line


def test_without_the_group_the_same_tasks_confuse_and_the_user_is_told_what_to_do(
    made_group: Path, backbone: Path, tmp_path: Path
) -> None:
    home = ["--home", tmp_path / "apart"]
    for task in ("mood", "pace", "poll"):
        data = ["--data", made_group / f"{task}.csv", "--backbone", backbone]
        done(*home, "add", "--task", task, *data, "--epochs", 3)
    answer = done(*home, "retrain-router")
    told = " ".join(answer.err.split())
    assert "mood" in told
    assert "pace" in told
    assert " group NAME mood pace" in told
    assert "predict --task" in told
    routed = done(*home, "--json", "retrain-router").document
    metrics = routed["metrics"]
    assert [one["tasks"] for one in metrics["confusions"]] == [["mood", "pace"]]
    assert [" group NAME mood pace" in one for one in routed["warnings"]] == [True]
    assert f"expertbank --home {home[1]} group" in routed["warnings"][0]
    step = done(*home, "--json", "status").document["steps"][0]
    assert step["command"].endswith(" group NAME mood pace")
    report = done(*home, "forgetting-report")
    assert report.out.startswith("identical: ")
    assert "the router costs 2 tasks more than 10 points" in report.out.splitlines()[0]
    regrets = {
        line["task"]: line["oracle"] - line["routed"]
        for line in done(*home, "--json", "forgetting-report").document["tasks"]
    }
    assert min(regrets["mood"], regrets["pace"]) > 0.1 > regrets["poll"]
    done(*home, "forgetting-report", "--max-regret", max(regrets.values()) + 1e-9)
    held = call(*home, "forgetting-report", "--max-regret", regrets["pace"] - 1e-9)
    assert held.code == 5
    assert f"pace {regrets['pace']:.3f}" in held.err
    assert " group)" in held.err
    for share in ("nan", "-0.1", "1.5"):
        assert call(*home, "forgetting-report", "--max-regret", share).code == 2
    apart = metrics["per_task"]
    grouped = done("--home", made_group / "bank", "--json", "show", "active").document
    together = grouped["router"]["metrics"]["per_task"]
    assert grouped["router"]["metrics"]["confusions"] == []
    for task in ("mood", "pace"):
        assert together[task] > 0.9
        assert apart[task] < together[task] - 0.2


def test_add_with_a_router_tells_what_retrain_router_alone_tells(
    made_group: Path, backbone: Path, tmp_path: Path
) -> None:
    home = ["--home", tmp_path / "apart"]
    for task, more in (("mood", ()), ("pace", ("--retrain-router",))):
        data = ["--data", made_group / f"{task}.csv", "--backbone", backbone]
        answer = done(*home, "add", "--task", task, *data, "--epochs", 1, *more)
    alone = done(*home, "retrain-router", "--no-activate")
    accuracy = next(line for line in alone.out.splitlines() if "routing accuracy" in line).split()[
        2
    ]
    assert f"router@1 active, routing accuracy {accuracy}" in answer.out
    warned = [
        " ".join(one.err.split()).partition("warning: mood and")[2] for one in (answer, alone)
    ]
    assert warned[0]
    assert warned[1].startswith(warned[0])
    assert "router@1 is active all the same" in alone.err


def test_a_group_of_rows_with_choices_and_rows_without_is_refused_before_any_work(
    group: Path, tmp_path: Path
) -> None:
    before = content(group)
    data = write_jsonl(tmp_path / "pick.jsonl", choice_rows(40))
    answer = call(
        *["--home", group, "add", "--task", "pick", "--data", data, "--choices-column"],
        *["choices", "--group", "tickets"],
    )
    assert answer.code == 2
    assert "tickets" in answer.err
    assert "multiple_choice" in answer.err
    assert content(group) == before


def test_a_value_and_classes_may_answer_one_text_together(group: Path, tmp_path: Path) -> None:
    rows = [(text, str(len(text.split()))) for text, *_ in ticket_rows(60)]
    data = write_rows(tmp_path / "size.csv", rows, ("text", "label"))
    words = ["--kind", "regression", "--group", "tickets", "--epochs", 1, "--retrain-router"]
    done("--home", group, "add", "--task", "size", "--data", data, *words)
    text = ticket_rows(1, seed=9)[0][0]
    (line,) = done("--home", group, "--json", "predict", text).lines
    answers = {answer["task"]: answer["label"] for answer in line["answers"]}
    assert set(answers) == {"mood", "pace", "size"}
    assert isinstance(answers["size"], float)


def test_a_new_version_keeps_its_group_and_says_what_changes_it(
    group: Path, tmp_path: Path
) -> None:
    before = content(group)
    add = ["--home", group, "add", "--epochs", 1, "--new-version"]
    mood = ["--task", "mood", "--data", write_ticket(tmp_path / "mood.csv", MOOD, 60)]
    poll = ["--task", "poll", "--data", write_task(tmp_path / "poll.csv", "poll", 40)]
    for words, command in (
        ([*mood, "--group", "other"], " group other mood"),
        ([*poll, "--group", "tickets"], " group tickets poll"),
    ):
        answer = call(*add, *words)
        assert answer.code == 2
        assert command in answer.err
        assert content(group) == before, "it is said before anything is trained"
    done(*add, *mood)
    done("--home", group, "retrain-router")
    text = ticket_rows(1, seed=9)[0][0]
    (line,) = done("--home", group, "--json", "predict", text).lines
    assert {answer["expert"] for answer in line["answers"]} == {"mood@2", "pace@1"}


def test_a_group_has_a_name_like_a_task(backbone: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "poll.csv", "poll", 40)
    for name in ("Two Words", "../up", ""):
        answer = call(
            *["--home", tmp_path / "none", "add", "--task", "poll", "--data", data],
            *["--group", name, "--backbone", backbone],
        )
        assert answer.code == 2, name
    assert not (tmp_path / "none").exists()


def test_values_alone_fill_a_group(backbone: Path, tmp_path: Path) -> None:
    home = ["--home", tmp_path / "bank"]
    for name, sign in (("up", 1), ("down", -1)):
        rows = [(text, str(float(value) * sign)) for text, value in value_rows(60)]
        data = write_rows(tmp_path / f"{name}.csv", rows, ("text", "label"))
        words = ["--kind", "regression", "--group", "both", "--epochs", 1, "--backbone", backbone]
        done(*home, "add", "--task", name, "--data", data, *words)
    done(*home, "retrain-router")
    (line,) = done(*home, "--json", "predict", "tax green green the").lines
    assert line["confidence"] == 1
    up, down = ({a["task"]: a["label"] for a in line["answers"]}[name] for name in ("up", "down"))
    assert up > 0 > down
    report = done(*home, "--json", "forgetting-report").document
    assert report["matrix"] == [[None, None]]
    assert report["average_accuracy"] is None
    assert [task["routed"] for task in report["tasks"]] == [
        task["oracle"] for task in report["tasks"]
    ]
