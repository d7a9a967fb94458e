"""Under --json every command answers with one document of promised keys, which never shrink."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import call, done, write_csv, write_task

from expertbank.workflows.answering.prediction import Prediction

EXPORTED = {
    *("path", "format", "digest", "experts", "verified", "router", "bytes", "recorded"),
}
TOP: dict[str, set[str]] = {
    "init": {"home", "backbone", "store", "feature_spec"},
    "add": {
        *("task", "expert", "metrics", "train", "adapter", "tuning"),
        *("data", "warnings", "todo"),
    },
    "retrain-router": {
        *("router", "tasks", "metrics", "old_texts_read", "seconds"),
        *("unmeasured", "put_on_grid", "cost", "warnings"),
    },
    "forgetting-report": {
        *("tasks", "average_accuracy", "backward_transfer", "forgetting", "routing_regret"),
        *("weights_unchanged", "matrix", "margin", "from", "to", "confusion", "verdict"),
        *("lineage", "regrouped_routers", "uncounted_routers", "matrix_as_served", "map"),
        *("router", "routers", "verification"),
    },
    "export": EXPORTED,
    "export --format peft": {*EXPORTED, "effects"},
    "evaluate": {
        *("task", "expert", "metric", "n", "oracle", "routed", "routed_to_task", "per_label"),
        *("routed_expert", "routed_expert_oracle", "data_remarks"),
    },
    "tasks": {"tasks"},
    "status": {
        *("home", "backbone", "experts", "removed", "router", "router_usable"),
        *("routing_accuracy", "unrouted"),
        *("retired", "steps"),
    },
    "map": {"router", "told", "clouds", "rows"},
    "list": {"experts", "routers", "stale"},
    "show": {
        *("expert", "task", "features", "statistics", "evaluations", "run", "stale"),
        "backbone",
    },
    "history": {"events"},
    "alias": {"aliases", "events"},
    "verify": {"ok", "problems", "artifacts", "bytes", "purged", "unreferenced"},
    "remove": {
        *(
            "task",
            "experts",
            "purged",
            "removed_at",
            "already_removed",
            "routers",
            "aliases",
            "dry_run",
        ),
        "todo",
    },
    "group": {"group", "moved", "already", "stale", "dry_run", "todo"},
    "gc": {"deleted", "bytes", "purged", "routers", "forgotten", "kept", "dry_run"},
    "import": {"imported", "skipped", "bundle", "remarks", "dry_run", "todo"},
    "import --peft": {
        *("imported", "skipped", "bundle", "remarks", "dry_run", "tuning"),
        *("task", "expert", "metrics", "train", "adapter", "data", "warnings", "peft", "todo"),
    },
    "doctor": {"healthy", "home", "findings", "packages", "environment"},
    "unknowns": {
        *("rows", "unknown", "read_from", "distinct", "groups", "groups_found"),
        *("in_other_groups", "alone", "not_compared", "sampled", "width_from"),
    },
    "db restore": {"source", "revision", "experts", "routers", "backup", "dry_run"},
    "db upgrade": {"before", "after", "backup"},
    "db backup": {"backup"},
    "db copy": {
        *("source", "target", "bank", "store", "experts", "routers", "rows", "files", "copied"),
        "bytes",
    },
}
INNER: dict[tuple[str, str], set[str]] = {
    ("map", "clouds"): {"task", "place", "spread", "nearest", "distance"},
    ("map", "rows"): {"place", "task", "unknown"},
    ("add", "expert"): {
        *("id", "version", "digest", "adapter_params", "head_params", "bytes"),
        *("labels", "external_adapter"),
    },
    ("add", "train"): {
        *("examples", "truncated", "selection_examples", "selection_score", "curve"),
        *("epochs", "epochs_trained", "best_epoch", "seconds", "tokens_per_second"),
        *("cached_trunk_rows", "cached_trunk_bytes", "rank_one_params"),
    },
    ("add", "adapter"): {
        "kind",
        "tt_rank",
        "rank",
        "alpha",
        "projections",
        "pooling",
        "modules",
        "first_layer",
        "settings",
    },
    ("export --format peft", "effects"): {"expert", "model", "effect", "error", "tolerance"},
    ("import --peft", "imported"): {"task", "id", "version", "digest"},
    ("import --peft", "peft"): {
        *("adapter", "base_model", "revision", "head", "labels", "expert", "with"),
    },
    ("retrain-router", "router"): {"version", "kind", "digest", "params", "active"},
    ("retrain-router", "metrics"): {
        *("accuracy", "per_task", "confusions", "calibration_error", "unknown"),
    },
    ("unknowns", "groups"): {"number", "rows", "distinct", "share", "nearest", "typical"},
    ("unknowns", "groups.nearest"): {"task", "share"},
    ("unknowns", "groups.typical"): {"index", "text"},
    ("forgetting-report", "tasks"): {
        *("task", "n", "at_add", "oracle", "oracle_source", "routed_at_add", "routed_before"),
        *(
            "regrouped",
            "routed",
            "regret",
            "majority",
            "beats_majority",
            "p_beats_majority",
            "flip_rate",
        ),
        *("verdict", "from", "flips", "losses", "gains", "interval", "margin_provable"),
        *("margin_possible", "p_mcnemar", "p_noninferiority", "p_noninferiority_adjusted"),
        *("p_loss", "p_loss_adjusted", "clustered", "clusters", "compared", "difference"),
        *("expert", "from_expert", "method", "metric", "unread"),
    },
}
LEAST: dict[tuple[str, str], set[str]] = {
    ("list", "experts"): {"external_adapter", "usable"},
    ("list", "routers"): {"aliases", "usable"},
    ("show", "expert"): {"external_adapter", "usable"},
    ("add", "metrics"): {"accuracy", "n", "majority"},
    ("import --peft", "expert"): {"id", "version", "digest", "adapter_params", "head_params"},
    ("import --peft", "metrics"): {"accuracy", "n", "majority"},
}
"""Of records, and of what depends on the kind of task: there may be more."""
PREDICTION = {
    *("index", "task", "expert", "confidence", "unknown", "unknown_score", "unknown_p_value"),
    *("abstained", "truncated", "label", "scores"),
}
OF_SOME = {
    *("text", "finish", "external_adapter", "choice", "labels", "thresholds", "second", "answers"),
}
"""Keys of rows of some kinds, groups and options only."""
EXPLANATION = {"near", "tokens", "length_bin", "unknown_p_value"}


def _words(command: str, bank: Path, made: Path, tmp_path: Path) -> list[object]:
    data = write_task(tmp_path / "more.csv", "mood", 60, seed=5)
    strange = [(f"{'virus ' * (n % 7 + 3)}{'gene ' * (n // 7 + 1)}",) for n in range(40)]
    return {
        "init": ["init"],
        "add": ["add", "--task", "more", "--data", data, "--epochs", "1"],
        "retrain-router": ["retrain-router"],
        "status": ["status"],
        "map": ["map", "--svg", tmp_path / "map.svg", "--file", data],
        "forgetting-report": ["forgetting-report", "--verify"],
        "export": ["export", tmp_path / "out"],
        "export --format peft": ["export", tmp_path / "out", "--format", "peft"],
        "evaluate": ["evaluate", "--task", "mood", "--data", data],
        "tasks": ["tasks"],
        "list": ["list"],
        "show": ["show", "mood@1"],
        "history": ["history"],
        "alias": ["alias"],
        "verify": ["verify"],
        "remove": ["remove", "--task", "mood", "--yes"],
        "group": ["group", "feelings", "mood", "poll"],
        "gc": ["gc", "--yes"],
        "import": ["import", tmp_path / "importable"],
        "import --peft": [
            *("import", "--peft", tmp_path / "importable" / "mood"),
            *("--task", "more", "--data", data),
        ],
        "doctor": ["doctor"],
        "unknowns": ["unknowns", write_csv(tmp_path / "strange.csv", strange, ("text",))],
        "db restore": ["db", "restore", made / "bank" / "registry.db", "--yes"],
        "db upgrade": ["db", "upgrade"],
        "db backup": ["db", "backup", tmp_path / "copy.db"],
        "db copy": ["db", "copy", bank, tmp_path / "copy"],
    }[command]


@pytest.mark.parametrize("command", TOP)
def test_json_is_one_document_on_stdout_with_the_promised_keys(
    command: str, bank: Path, made_bank: Path, tmp_path: Path
) -> None:
    if command == "import":
        done("--home", bank, "export", tmp_path / "importable", "--for-import")
    if command == "import --peft":
        done("--home", bank, "export", tmp_path / "importable", "--format", "peft")
    answer = done("--home", bank, "--json", *_words(command, bank, made_bank, tmp_path))
    assert answer.out.count("\n") == 1
    document = answer.document
    assert TOP[command] == set(document), "a new key belongs here and in docs/json.md"
    for (owner, path), fields in [*INNER.items(), *LEAST.items()]:
        if owner == command:
            items = _at(document, path)
            assert items
            for item in items:
                assert fields <= set(item)
                assert set(item) == fields or (owner, path) in LEAST, path


def _at(document: dict[str, Any], path: str) -> list[Any]:
    """What stands at a path of keys; of lists that it goes through, every item."""
    found: list[Any] = [document]
    for key in path.split("."):
        values = [one[key] for one in found]
        found = [item for v in values for item in (v if isinstance(v, list) else [v])]
    return found


MOOD: dict[str, Any] = {"index": 0, "task": "mood", "expert": "mood@1", "confidence": 1.0}


def test_a_row_of_predict_has_no_key_that_is_not_promised() -> None:
    every = Prediction(
        *("good", {"good": 1.0}, "good", 0, ("good",), {"good": 0.5}, "good"),
        **MOOD,
        second="poll@1",
        finish="stop",
        external_adapter="mood",
    )
    assert set(replace(every, answers=(every,)).to_dict()) == PREDICTION | OF_SOME
    plain = Prediction("good", {"good": 1.0}, "good", **MOOD)
    assert set(plain.to_dict()) == PREDICTION
    assert set(plain.explanation()) == EXPLANATION


def test_every_command_of_the_program_has_a_contract() -> None:
    listed = {
        line.split()[0]
        for line in done("--help").out.partition("Commands:")[2].splitlines()
        if line.strip()
    }
    # Those of predict (also streamed) and serve have tests of their own: lines, and HTTP.
    assert listed == {command.split()[0] for command in TOP} | {"predict", "serve"}


def test_the_figures_mean_what_the_contract_says(bank: Path) -> None:
    report = done("--home", bank, "--json", "forgetting-report").document
    (of_mood,) = [task for task in report["tasks"] if task["task"] == "mood"]
    assert set(of_mood["verdict"]) == {"expert", "routed"}
    assert of_mood["verdict"]["expert"] == "identical"
    assert (of_mood["verdict"]["routed"] == "identical") == (of_mood["flips"] == 0)
    assert of_mood["flip_rate"] == of_mood["flips"] / of_mood["n"]
    assert of_mood["oracle_source"] == "stored"
    assert report["weights_unchanged"] is True
    fractions = [value for row in report["matrix"] for value in row if value is not None]
    assert fractions
    assert all(0 <= value <= 1 for value in fractions)
    assert [len(row) for row in report["matrix"]] == [3] * len(report["routers"])

    again = done("--home", bank, "--json", "retrain-router").document
    assert again["old_texts_read"] == 0
    per_task = again["metrics"]["per_task"]
    assert again["metrics"]["accuracy"] == pytest.approx(sum(per_task.values()) / len(per_task))


def test_retrain_router_says_whether_it_is_the_active_one(bank: Path) -> None:
    done("--home", bank, "alias", "active", "router@1")
    done("--home", bank, "alias", "stable", "router@2")
    shelved = done("--home", bank, "--json", "retrain-router", "--no-activate").document
    assert shelved["router"]["version"] == 2
    assert shelved["router"]["active"] is False
    taken = done("--home", bank, "--json", "retrain-router").document
    assert taken["router"]["active"] is True


def test_predict_answers_one_json_line_a_row(bank: Path, made_bank: Path) -> None:
    texts = ["the film is good", "vote no", "sky"]
    for place in (["--home", bank], ["--bundle", made_bank / "bundle"]):
        lines = done("predict", *place, *texts, "--json").lines
        assert [line["index"] for line in lines] == [0, 1, 2]
        for line in lines:
            assert set(line) == PREDICTION
            assert line["label"] == max(line["scores"], key=line["scores"].__getitem__)
            assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-5)
            assert type(line["unknown"]) is bool
            assert type(line["unknown_score"]) is float
            assert 0 < line["confidence"] <= 1


def test_naming_the_task_leaves_the_router_out(bank: Path) -> None:
    (line,) = done("--home", bank, "--json", "predict", "vote no", "--task", "mood").lines
    assert (line["task"], line["confidence"]) == ("mood", 1.0)


def test_show_tells_routers_too(bank: Path) -> None:
    by_version = done("--home", bank, "--json", "show", "router@2").document
    assert by_version["router"]["members"]
    assert by_version["run"]["kind"] == "retrain-router"
    assert done("--home", bank, "--json", "show", "active").document == by_version
    by_digest = done("--home", bank, "--json", "show", by_version["router"]["digest"][:12])
    assert by_digest.document == by_version


ERRORS: dict[str, tuple[list[object], int]] = {
    "usage": (["list", "--no-such-option"], 2),
    "no command": ([], 2),
    "input": (["add", "--task", "Bad Name", "--data", "x.csv"], 2),
    "exists": (["add", "--task", "mood", "--data", "x.csv"], 3),
    "not found": (["show", "nothing"], 10),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_under_json_is_one_object_on_stderr_and_nothing_on_stdout(
    case: str, bank: Path
) -> None:
    words, code = ERRORS[case]
    answer = call("--home", bank, "--json", *words)
    assert answer.code == code
    assert answer.out == ""
    error: dict[str, Any] = json.loads(answer.err)["error"]
    assert error["code"] == code
    assert error["message"]


def test_verify_answers_and_fails_when_a_file_is_damaged(bank: Path) -> None:
    victim = next(bank.glob("objects/*/*.safetensors"))
    victim.chmod(0o644)
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    answer = call("--home", bank, "--json", "verify")
    assert answer.code == 13
    assert answer.document["ok"] is False
    assert victim.stem in answer.document["problems"][0]["where"]
    assert answer.error["code"] == 13
