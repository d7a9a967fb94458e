"""Experts that are names of adapters elsewhere, through every command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import call, content, done, task_rows, write_csv, write_task

from expertbank import Bank

NAMES = {"poll": "poll-v2", "sport": "org/sport"}
TEXTS = ["film good plot the red", "vote law tax the party", "goal match the team player"]


def prompts(path: Path, task: str, seed: int = 0) -> Path:
    return write_csv(path, [(text,) for text, _ in task_rows(task, 80, seed)], ("prompt",))


@pytest.fixture(scope="module")
def made(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, and a bank of one expert and two names; never write to it."""
    folder = tmp_path_factory.mktemp("external")
    bank, mood = ["--home", folder / "bank"], write_task(folder / "mood.csv", "mood")
    start = ["--data", mood, "--epochs", 2, "--backbone", backbone_folder("bert")]
    done(*bank, "add", "--task", "mood", *start)
    for task, name in NAMES.items():
        data = prompts(folder / f"{task}.csv", task)
        done(*bank, "add", "--task", task, "--external", name, "--data", data)
    done(*bank, "retrain-router")
    return folder


@pytest.fixture
def home(made: Path) -> list[object]:
    return ["--home", made / "bank"]


@pytest.fixture
def own(made: Path, tmp_path: Path) -> list[object]:
    """A bank to write to."""
    shutil.copytree(made / "bank", tmp_path / "bank")
    return ["--home", tmp_path / "bank"]


def test_a_mixed_batch_gives_labels_of_ours_and_names_of_theirs(home: list[object]) -> None:
    ours, *theirs = done(*home, "predict", *TEXTS, "--json").lines
    assert ours["task"] == "mood"
    assert ours["label"] == max(ours["scores"], key=ours["scores"].get)
    assert "external_adapter" not in ours
    (alone,) = done(*home, "predict", TEXTS[0], "--json").lines
    assert ours["scores"] == pytest.approx(alone["scores"], abs=1e-5)
    for line, (task, name) in zip(theirs, NAMES.items(), strict=True):
        assert (line["task"], line["expert"], line["external_adapter"]) == (task, f"{task}@1", name)
        assert (line["label"], line["scores"]) == (None, {})
    table = done(*home, "predict", *TEXTS).out
    assert "(adapter poll-v2)" in table
    (named,) = done(*home, "predict", TEXTS[0], "--task", "poll", "--json").lines
    assert (named["external_adapter"], named["label"], named["confidence"]) == (
        "poll-v2",
        None,
        1.0,
    )


def test_a_row_that_is_like_no_task_may_still_be_abstained_from(home: list[object]) -> None:
    lines = done(*home, "predict", "zzz", *TEXTS, "--abstain", "--json").lines
    for line in lines:
        assert line["abstained"] == line["unknown"]
        assert (line["label"] == "unknown") == line["abstained"]
        assert line["abstained"] <= ("external_adapter" not in line)
    (spared,) = done(*home, "predict", "zzz zzz", "--fallback", "poll", "--json").lines
    assert (spared["task"] == "poll") <= (spared["external_adapter"] == "poll-v2")


def test_where_all_rows_go_elsewhere_the_pass_ends_at_the_route_layer(made: Path) -> None:
    with Bank.open(made / "bank", read_only=True) as bank:
        predictor = bank.predictor()
        backbone, layer = predictor.model.backbone, predictor.model.spec.route_layer
        list(predictor.predict(TEXTS[:1]))  # a backbone is tried out when it is first used
        ran = []
        watched = [one.register_forward_hook(lambda *_: ran.append(1)) for one in backbone.layers]
        told = list(predictor.predict(TEXTS[1:]))
        assert [one.external_adapter for one in told] == list(NAMES.values())
        assert len(ran) == layer
        ran.clear()
        mixed = list(predictor.predict(TEXTS))
        assert len(ran) == len(backbone.layers)
        for hook in watched:
            hook.remove()
    for one, other in zip(told, mixed[1:], strict=True):
        assert one.task == other.task
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_what_is_listed_names_the_adapter_and_no_figure(home: list[object], made: Path) -> None:
    experts = {e["task"]: e for e in done(*home, "list", "--json").document["experts"]}
    assert {task: one["external_adapter"] for task, one in experts.items()} == {
        "mood": None,
        **NAMES,
    }
    for task in NAMES:
        assert experts[task]["accuracy"] is None
        assert (experts[task]["adapter_params"], experts[task]["head_params"]) == (0, 0)
    assert "org/sport" in done(*home, "list").out
    shown = done(*home, "show", "poll", "--json").document
    assert shown["expert"]["external_adapter"] == "poll-v2"
    assert shown["expert"]["spec"]["kind"] == "external"
    assert shown["run"]["config"]["adapter"]["kind"] == "none"
    assert {one["router_version"]: one["accuracy"] for one in shown["evaluations"]}[None] is None
    done(*home, "show", "poll")


def test_the_commands_that_keep_and_judge_a_bank_know_them(
    home: list[object], made: Path, tmp_path: Path
) -> None:
    report = done(*home, "forgetting-report", "--verify", "--json").document
    lines = {line["task"]: line for line in report["tasks"]}
    for task in NAMES:
        line = lines[task]
        assert (line["metric"], line["at_add"], line["oracle"]) == ("routing", None, None)
        assert line["routed"] == report["confusion"]["counts"][list(lines).index(task)][
            report["confusion"]["columns"].index(task)
        ] / line["n"]  # fmt: skip
        assert line["verdict"] == {"expert": "identical", "routed": "identical"}
        assert report["verification"][task]["rows"] == line["n"]
    assert report["average_accuracy"] == lines["mood"]["routed"]
    page = tmp_path / "report.html"
    done(*home, "forgetting-report", "--html", page, "--markdown", tmp_path / "report.md")
    assert "poll@1" in page.read_text()
    assert done(*home, "verify", "--json").document["ok"]
    steps = [step["command"] for step in done(*home, "status", "--json").document["steps"]]
    assert any(step.endswith(" serve --engine URL") for step in steps)
    assert not any(step.startswith("expertbank export") for step in steps)
    for words in (["status"], ["map"], ["doctor"], ["history"], ["unknowns", made / "mood.csv"]):
        done(*home, *words)


def test_a_name_is_removed_and_purged_and_comes_back_as_another(
    own: list[object], made: Path
) -> None:
    done(*own, "remove", "--task", "poll", "--yes")
    done(*own, "retrain-router")
    assert "poll" not in {line["task"] for line in done(*own, "predict", *TEXTS, "--json").lines}
    data = prompts(made.parent / "again.csv", "poll", 1)
    again = ["--data", data, "--external", "poll-v3", "--new-version", "--retrain-router"]
    added = done(*own, "add", "--task", "poll", *again, "--json").document
    assert added["expert"]["id"] == "poll@2"
    assert added["expert"]["external_adapter"] == "poll-v3"
    (line,) = done(*own, "predict", TEXTS[1], "--json").lines
    assert (line["expert"], line["external_adapter"]) == ("poll@2", "poll-v3")
    done(*own, "remove", "--task", "sport", "--yes")
    done(*own, "retrain-router")
    done(*own, "gc", "--purge-removed", "--keep-routers", 1, "--yes")
    assert done(*own, "verify", "--json").document["ok"]


@pytest.mark.parametrize("statistics", [[], ["--statistics"]])
def test_another_bank_takes_the_name_over(
    home: list[object], made: Path, tmp_path: Path, statistics: list[str]
) -> None:
    done(*home, "export", tmp_path / "bundle", "--for-import", *statistics)
    other = ["--home", tmp_path / "other"]
    done(*other, "import", tmp_path / "bundle")
    done(*other, "retrain-router")
    before, after = (done(*one, "predict", *TEXTS, "--json").lines for one in (home, other))
    assert [(one["task"], one.get("external_adapter")) for one in after] == [
        (one["task"], one.get("external_adapter")) for one in before
    ]


def test_what_needs_weights_or_answers_is_refused_with_what_to_do(
    home: list[object], made: Path, tmp_path: Path
) -> None:
    measured = call(*home, "evaluate", "--task", "poll", "--data", made / "poll.csv")
    assert measured.code == 2
    assert "'poll-v2'" in measured.err
    assert "forgetting-report" in measured.err
    for form in ("bundle", "peft"):
        told = call(*home, "export", tmp_path / form, "--format", form)
        assert told.code == 2
        assert "poll@1" in told.err
        assert "--task mood" in told.err
        assert told.err.count("\n") == 1
        assert not (tmp_path / form).exists()
        done(*home, "export", tmp_path / form, "--format", form, "--task", "mood")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--external", "é"], "printable ASCII"),
        (["--external", " x"], "printable ASCII"),
        (["--external", "x", "--epochs", "3", "--lr", "0.1"], "leave out --epochs, --lr"),
        (["--external", "x", "--adapter", "lora"], "leave out --adapter"),
        (["--external", "x", "--tune", "5"], "leave out --tune"),
        (["--external", "x", "--label-column", "label"], "leave out --label-column"),
        (["--external", "x", "--kind", "generation"], "leave out --kind"),
        (["--external", "x", "--text-column", "no"], "no column 'no'"),
        (["--kind", "external"], "--external NAME"),
        (["--external", "x", "--data", "few.csv"], "1 different row cannot be split"),
        (["--adapter", "none"], "--external NAME"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    own: list[object],
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    before = content(own[1])  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    Path("few.csv").write_text("prompt\nvote law\n")
    data = [] if "--data" in words else ["--data", made / "mood.csv"]
    told = call(*own, "add", "--task", "new", *data, *words)
    assert told.code == 2
    assert said in told.err
    assert content(own[1]) == before  # type: ignore[arg-type]


def test_a_second_text_is_refused_with_its_line_and_left_out_by_naming_the_first(
    own: list[object], tmp_path: Path
) -> None:
    rows = [(text, "a") for text, _ in task_rows("sport", 40, 3)]
    data = write_csv(tmp_path / "pairs.csv", rows, ("question", "context"))
    words = ["add", "--task", "new", "--external", "x", "--data", data]
    told = call(*own, *words)
    assert told.code == 2
    assert "pairs.csv:" in told.err
    assert "--text-column" in told.err
    added = done(*own, *words, "--text-column", "question", "--json").document
    assert added["data"]["columns"]["text"] == "question"


def test_data_is_checked_and_lists_are_read_as_for_any_task(
    own: list[object], made: Path, tmp_path: Path
) -> None:
    words = ["tasks", "check", made / "poll.csv", "--external", "x"]
    checked = done(*own, *words, "--json").document
    assert (checked["plan"]["epochs"], checked["plan"]["seconds"]) == (0, 0)
    assert (checked["labels"], checked["majority"]) == ([], None)
    assert "nothing is trained" in done(*own, *words).out
    tasks = tmp_path / "tasks.yaml"
    tasks.write_text(
        f"- {{task: one, external: one-x, data: {made / 'poll.csv'}}}\n"
        f"- {{task: two, external: two-x, data: {made / 'sport.csv'}, limit: 20}}\n"
    )
    both = done(*own, "add", "--list", tasks, "--json").document["added"]
    assert [one["expert"]["external_adapter"] for one in both] == ["one-x", "two-x"]
    assert both[1]["data"]["counts"]["train"] == 20
    assert both[0]["train"]["epochs"] == 0


def test_a_name_and_an_expert_of_ours_answer_together_as_a_group(own: list[object]) -> None:
    done(*own, "group", "both", "mood", "poll")
    done(*own, "retrain-router")
    words = ["predict", *TEXTS, "--second-opinion", "--json"]
    for line in done(*own, *words).lines:
        if line["task"] == "sport":
            assert line["external_adapter"] == "org/sport"
            continue
        told = {one["task"]: one for one in line["answers"]}
        assert told["poll"]["external_adapter"] == "poll-v2"
        assert told["poll"]["label"] is None
        assert told["mood"]["label"] in {"bad", "good"}
        assert "external_adapter" not in told["mood"]


@pytest.mark.parametrize("settings", [["--keep", "stats"], ["--route-layer", "0"]])
def test_banks_of_statistics_alone_and_of_two_passes_take_them(
    made: Path, backbone: Path, tmp_path: Path, settings: list[str]
) -> None:
    home = ["--home", tmp_path / "bank"]
    start = ["--backbone", backbone, *settings]
    for task, name in NAMES.items():
        words = ["--task", task, "--external", name, "--data", made / f"{task}.csv"]
        done(*home, "add", *words, *start)
    done(*home, "retrain-router", "--kind", "lda")
    lines = done(*home, "predict", *TEXTS[1:], "--json").lines
    assert [line["external_adapter"] for line in lines] == [NAMES[line["task"]] for line in lines]
    report = done(*home, "forgetting-report", "--verify", "--json").document
    assert all(0.5 < line["routed"] <= 1 for line in report["tasks"])
