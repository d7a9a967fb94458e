"""Multiple choice and regression beside classification, through every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import call, content, done, task_rows, write_task
from small_tasks import choice_rows, value_rows, write_jsonl, write_rows

from expertbank import Bank, RouterConfig
from expertbank.evaluation.outcome import pearson
from expertbank.evaluation.predictions import Predictions
from expertbank.routing.feature_file import FeatureFile

CHOICES = ["--choices-column", "choices"]
HELD_SHORT = 1e3
"""Strength of a ridge beside which the covariance hardly counts."""


@pytest.fixture(scope="session")
def made_kinds(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of a classification, a multiple-choice and a regression task; never write to it."""
    folder = tmp_path_factory.mktemp("kinds")
    home = folder / "bank"
    mood = write_task(folder / "mood.csv", "mood")
    pick = write_jsonl(folder / "pick.jsonl", choice_rows(160))
    grade = write_rows(folder / "grade.csv", value_rows(160), ("text", "label"))
    start = ["--home", home, "add", "--epochs", 3, "--backbone", backbone_folder("bert")]
    done(*start, "--task", "mood", "--data", mood)
    done(*start, "--task", "pick", "--data", pick, *CHOICES, "--retrain-router")
    done(*start, "--task", "grade", "--data", grade, "--kind", "regression", "--retrain-router")
    done("--home", home, "export", folder / "bundle")
    return folder


@pytest.fixture
def kinds(made_kinds: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_kinds / "bank", tmp_path / "kinds")
    return tmp_path / "kinds"


def places(made: Path) -> list[list[object]]:
    return [["--home", made / "bank"], ["--bundle", made / "bundle"]]


def mixture() -> list[dict[str, object]]:
    """Plain rows and rows of 2, 3 and 5 choices, in turns."""
    rows: list[dict[str, object]] = []
    for place in range(24):
        if place % 2:
            row = choice_rows(24, seed=5, choices=(2, 3, 5)[place // 2 % 3])[place]
            rows.append({"text": row["text"], "choices": row["choices"]})
        else:
            texts = value_rows(24, seed=5) if place % 4 else task_rows("mood", 24, seed=5)
            rows.append({"text": texts[place][0]})
    return rows


def test_the_routed_figure_is_what_the_gate_says_among_the_candidates(kinds: Path) -> None:
    with Bank.open(kinds) as bank:
        # These tasks are easy: only a gate held this short takes rows to tasks of other shapes.
        bank.retrain_router(config=RouterConfig(ridge=HELD_SHORT))
        routers = {router.version: router for router in bank.routers()}
        (router,) = [routers[max(routers)]]
        store, routed = bank._workspace.store, bank._workspace.router(router)
        (layer,) = routed.gate.layers
        right, strayed = {}, 0
        for name in router.members:
            expert = bank.registry.expert(name)
            file = FeatureFile.from_bytes(store.get(bank.registry.feature_set(name).digest), name)
            # Worked out from the gate's formula, not by the code that stored it.
            rows = file.evaluation.double().numpy()
            values = rows @ layer.weight.double().numpy() + layer.bias.double().numpy()
            tasks = np.array([column[0].task for column in routed.columns])
            can = [("choices" in c[0].reads) == (expert.task == "pick") for c in routed.columns]
            (oracle,) = bank.registry.evaluations(name, router_version="oracle")
            answers = Predictions.from_bytes(store.get(oracle.artifact_digest), name)
            strayed += int((tasks[values.argmax(1)] != expert.task).sum())
            if expert.task != "grade":
                went = tasks[np.where(can, values, -np.inf).argmax(1)] == expert.task
                right[expert.task] = float(
                    (went & (answers.logits.argmax(1) == answers.targets)).mean()
                )
    assert strayed, "the mask decides something here"
    report = done("--home", kinds, "--json", "forgetting-report").document
    lines = {line["task"]: line for line in report["tasks"]}
    for task, expected in right.items():
        assert lines[task]["routed"] == pytest.approx(expected)
    assert report["average_accuracy"] == pytest.approx(np.mean(list(right.values())))


def test_rows_with_choices_and_rows_without_go_to_experts_of_their_kind(
    made_kinds: Path, tmp_path: Path
) -> None:
    rows = mixture()
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    answers = [
        done("predict", *place, "--file", file, "--json").lines for place in places(made_kinds)
    ]
    assert answers[0] == answers[1], "bank and bundle agree"
    assert {line["task"] for line in answers[0]} == {"mood", "pick", "grade"}
    for row, line in zip(rows, answers[0], strict=True):
        assert (line["task"] == "pick") == ("choices" in row)
        if line["task"] == "grade":
            assert isinstance(line["label"], float)
            assert line["scores"] == {}
            continue
        assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-5)
        assert line["label"] == max(line["scores"], key=line["scores"].__getitem__)
        if "choices" in row:
            assert list(line["scores"]) == row["choices"]
            assert row["choices"][line["choice"]] == line["label"]
        else:
            assert "choice" not in line


def test_a_mixed_file_gives_the_answers_that_its_rows_get_alone(
    made_kinds: Path, tmp_path: Path
) -> None:
    rows = mixture()[:8]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    together = done("predict", "--home", made_kinds / "bank", "--file", file, "--json").lines
    for row, line in zip(rows, together, strict=True):
        alone_file = write_jsonl(tmp_path / "one.jsonl", [row])
        (alone,) = done(
            "predict", "--home", made_kinds / "bank", "--file", alone_file, "--json"
        ).lines
        assert (alone["task"], alone.get("choice")) == (line["task"], line.get("choice"))
        assert alone["scores"] == pytest.approx(line["scores"], abs=1e-4)
        if line["task"] == "grade":
            assert alone["label"] == pytest.approx(line["label"], abs=1e-3)
        else:
            assert alone["label"] == line["label"]


def test_equal_choices_are_one_answer_and_their_chances_add_up(
    made_kinds: Path, tmp_path: Path
) -> None:
    row = {"text": "cell is the", "choices": ["yes sky", "river", "yes sky"]}
    file = write_jsonl(tmp_path / "rows.jsonl", [row])
    (line,) = done("predict", "--home", made_kinds / "bank", "--file", file, "--json").lines
    assert set(line["scores"]) == {"yes sky", "river"}
    assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert line["choice"] in {0, 1, 2}


def test_choices_without_a_multiple_choice_expert_are_refused_and_the_row_is_named(
    bank: Path, made_bank: Path, tmp_path: Path
) -> None:
    rows = [{"text": "a good film"}, {"text": "cell", "choices": ["yes", "no"]}]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    for place in (["--home", bank], ["--bundle", made_bank / "bundle"]):
        answer = call("predict", *place, "--file", file)
        assert answer.code == 2
        assert "rows.jsonl:2" in answer.err
        assert "no multiple-choice expert" in answer.err


def test_naming_a_task_that_cannot_read_the_row_is_refused(
    made_kinds: Path, tmp_path: Path
) -> None:
    home = ["--home", made_kinds / "bank"]
    plain = call(*home, "predict", "a good film", "--task", "pick")
    assert plain.code == 2
    assert "brings no choices" in plain.err
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": "cell", "choices": ["yes", "no"]}])
    for task in ("mood", "grade"):
        chosen = call(*home, "predict", "--file", rows, "--task", task)
        assert chosen.code == 2
        assert "rows.jsonl:1" in chosen.err


def test_a_bank_of_choices_alone_refuses_rows_without(kinds: Path, tmp_path: Path) -> None:
    done("--home", kinds, "export", tmp_path / "part", "--task", "pick")
    answer = call("predict", "--bundle", tmp_path / "part", "a good film")
    assert answer.code == 2
    assert "only multiple-choice experts" in answer.err


def test_the_report_lists_regression_by_its_correlation_and_averages_the_rest(
    kinds: Path,
) -> None:
    report = done("--home", kinds, "--json", "forgetting-report", "--verify").document
    lines = {line["task"]: line for line in report["tasks"]}
    assert {task: line["metric"] for task, line in lines.items()} == {
        "grade": "pearson",
        "mood": "accuracy",
        "pick": "accuracy",
    }
    column = list(lines).index("grade")
    assert all(row[column] is None for row in report["matrix"])
    last = [value for value in report["matrix"][-1] if value is not None]
    assert len(last) == 2
    assert report["average_accuracy"] == pytest.approx(sum(last) / 2)
    assert -1 <= lines["grade"]["routed"] <= 1
    assert lines["grade"]["oracle"] > 0.5
    assert lines["pick"]["oracle"] > 0.6
    for task, line in lines.items():
        assert line["oracle_source"] == "measured"
        assert line["oracle"] == line["at_add"]
        assert report["verification"][task]["rows"] == line["n"]
        assert report["verification"][task]["max_logit_difference"] == 0
    # Only multiple-choice rows bring choices here: the router cannot miss them.
    assert lines["pick"]["routed"] == lines["pick"]["oracle"]


def test_what_is_printed_and_listed_has_a_figure_for_every_kind(kinds: Path) -> None:
    listed = done("--home", kinds, "--json", "list").document["experts"]
    by_task = {line["task"]: line for line in listed}
    assert by_task["grade"]["accuracy"] is None
    assert by_task["grade"]["pearson"] > 0.5
    assert by_task["pick"]["accuracy"] > 0.6
    for words in (["list"], ["forgetting-report"], ["show", "grade"], ["predict", "tax green"]):
        done("--home", kinds, *words)


def test_a_value_that_is_no_number_is_refused_with_its_line(backbone: Path, tmp_path: Path) -> None:
    for bad in ("much", "nan", "inf", ""):
        rows = [*value_rows(30)[:5], ("tax tax", bad), *value_rows(30)[5:]]
        data = write_rows(tmp_path / "bad.csv", rows, ("text", "label"))
        answer = call(
            *["--home", tmp_path / "none", "add", "--task", "grade", "--data", data],
            *["--kind", "regression", "--backbone", backbone],
        )
        assert answer.code == 2, bad
        assert "bad.csv:7" in answer.err
    assert not (tmp_path / "none").exists()


def test_another_kind_in_a_new_version_is_refused(kinds: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "mood.csv", value_rows(40), ("text", "label"))
    before = content(kinds / "objects")
    answer = call(
        *["--home", kinds, "add", "--task", "mood", "--data", data, "--new-version"],
        *["--kind", "regression", "--epochs", 1],
    )
    assert answer.code == 2
    assert "classification" in answer.err
    assert content(kinds / "objects") == before


@pytest.mark.parametrize(
    ("task", "name"), [("pick", "accuracy"), ("grade", "pearson"), ("mood", "accuracy")]
)
def test_evaluate_equals_a_recount_from_predict_in_bank_and_bundle(
    made_kinds: Path, tmp_path: Path, task: str, name: str
) -> None:
    if task == "pick":
        rows = [*choice_rows(40, seed=7)]
        data = write_jsonl(tmp_path / "new.jsonl", rows)
        inputs = [{key: row[key] for key in ("text", "choices")} for row in rows]
        labels = [row["label"] for row in rows]
    else:
        found = value_rows(40, seed=7) if task == "grade" else task_rows("mood", 40, seed=7)
        data = write_rows(tmp_path / "new.csv", found, ("text", "label"))
        inputs, labels = [{"text": text} for text, _ in found], [label for _, label in found]
    file = write_jsonl(tmp_path / "inputs.jsonl", inputs)
    results = []
    for place in places(made_kinds):
        result = done("evaluate", *place, "--task", task, "--data", data, "--json").document
        results.append(result)
        assert (result["task"], result["expert"], result["metric"]) == (task, f"{task}@1", name)
        assert result["n"] == 40
        named = done("predict", *place, "--file", file, "--task", task, "--json").lines
        routed = done("predict", *place, "--file", file, "--json").lines
        assert result["oracle"] == pytest.approx(recount(task, named, labels))
        assert result["routed"] == pytest.approx(recount(task, routed, labels))
        hits = sum(line["task"] == task for line in routed)
        assert result["routed_to_task"] == pytest.approx(hits / 40)
        if task == "mood":
            right = [a["label"] == b for a, b in zip(named, labels, strict=True)]
            for label, counts in result["per_label"].items():
                own = [r for r, b in zip(right, labels, strict=True) if b == label]
                assert counts == {"n": len(own), "right": sum(own)}
            assert set(result["per_label"]) == {"bad", "good"}
    assert results[0] == results[1]


def recount(task: str, lines: list[dict], labels: list) -> float | None:
    if task == "grade":
        given = [line["label"] for line in lines if line["task"] == task]
        mean = sum(given) / len(given)
        values = [line["label"] if line["task"] == task else mean for line in lines]
        return pearson(values, [float(label) for label in labels])  # type: ignore[arg-type]
    key = "choice" if task == "pick" else "label"
    right = [
        line["task"] == task and line[key] == label
        for line, label in zip(lines, labels, strict=True)
    ]
    return sum(right) / len(right)


def test_evaluate_takes_other_column_names_and_shows_a_table(
    made_kinds: Path, tmp_path: Path
) -> None:
    rows = task_rows("mood", 20, seed=8)
    one = write_rows(tmp_path / "one.csv", rows, ("text", "label"))
    two = write_rows(tmp_path / "two.csv", rows, ("body", "verdict"))
    words = ["--home", made_kinds / "bank", "evaluate", "--task", "mood", "--data"]
    renamed = ["--text-column", "body", "--label-column", "verdict"]
    assert done(*words, two, *renamed, "--json").document == done(*words, one, "--json").document
    shown = done(*words, one).out
    assert "mood@1" in shown
    assert "good" in shown


def test_evaluate_refuses_unknown_labels_and_tasks(made_kinds: Path, tmp_path: Path) -> None:
    rows = [*task_rows("mood", 5), ("a film", "splendid")]
    data = write_rows(tmp_path / "new.csv", rows, ("text", "label"))
    for place in places(made_kinds):
        bad = call("evaluate", *place, "--task", "mood", "--data", data)
        assert bad.code == 2
        assert "new.csv:7" in bad.err
        assert "splendid" in bad.err
        gone = call("evaluate", *place, "--task", "moot", "--data", data)
        assert gone.code == 10
        assert "mood" in gone.err
    assert call("evaluate", "--home", tmp_path / "none", "--task", "a", "--data", data).code == 10


def test_evaluate_without_a_router_answers_by_name_only(backbone: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 40)
    home = ["--home", tmp_path / "bank"]
    done(*home, "add", "--task", "mood", "--data", data, "--epochs", 1, "--backbone", backbone)
    result = done(*home, "--json", "evaluate", "--task", "mood", "--data", data).document
    assert result["oracle"] is not None
    assert (result["routed"], result["routed_to_task"]) == (None, None)
    assert done(*home, "evaluate", "--task", "mood", "--data", data).out


@pytest.mark.parametrize("task", ["pick", "grade"])
def test_rows_that_no_expert_of_the_router_reads_count_as_not_routed_and_the_named_figure_stays(
    kinds: Path, made_kinds: Path, task: str
) -> None:
    home = ["--home", kinds]
    for other in {"pick": ["pick"], "grade": ["grade", "mood"]}[task]:
        done(*home, "remove", "--task", other, "--yes")
    done(*home, "retrain-router")
    data = made_kinds / {"pick": "pick.jsonl", "grade": "grade.csv"}[task]
    kind = {"pick": CHOICES, "grade": ["--kind", "regression"]}[task]
    done(*home, "add", "--task", task, "--data", data, *kind, "--new-version", "--epochs", 1)
    found = done(*home, "--json", "evaluate", "--task", task, "--data", data)
    assert type(found.document["oracle"]) is float
    assert found.document["routed"] == {"pick": 0, "grade": None}[task]
    assert found.document["routed_to_task"] == 0
    assert found.document["routed_expert"] is None
    assert "160 of 160 rows" in found.err
    assert "retrain-router" in found.err
    assert "the router's expert" not in done(*home, "evaluate", "--task", task, "--data", data).out


def test_evaluate_changes_no_byte_of_the_bank(kinds: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 20, seed=9)
    before = content(kinds)
    done("--home", kinds, "evaluate", "--task", "mood", "--data", data)
    assert content(kinds) == before
    assert json.loads(done("--home", kinds, "--json", "verify").out)["ok"]
