"""An interrupted ``add`` goes on with --resume and ends as an undisturbed one would have."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import COMMAND, call, content, done, write_task
from small_tasks import choice_rows, value_rows, write_jsonl, write_rows

from expertbank.training import expert
from expertbank.workflows import workspace

Stop = Callable[[int], None]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """Press Ctrl-C when the state has been kept so many times; 0: never."""
    monkeypatch.setattr(expert, "KEEP_SECONDS", 0.0)
    write = workspace.CheckpointFile.write

    def stop(after: int) -> None:
        kept = 0

        def counting(self: workspace.CheckpointFile, data: bytes) -> None:
            nonlocal kept
            write(self, data)
            kept += 1
            if kept == after:
                raise KeyboardInterrupt

        monkeypatch.setattr(workspace.CheckpointFile, "write", counting)

    return stop


def data_of(kind: str, folder: Path) -> list[object]:
    """The options that add a task of a kind, with its data written to ``folder``."""
    if kind == "multiple_choice":
        data = write_jsonl(folder / "rows.jsonl", choice_rows(60))
        return ["--task", "it", "--data", data, "--choices-column", "choices"]
    if kind == "regression":
        data = write_rows(folder / "rows.csv", value_rows(60), ("text", "label"))
        return ["--task", "it", "--data", data, "--kind", "regression"]
    return ["--task", "it", "--data", write_task(folder / "rows.csv", "mood", 60)]


def checkpoints(home: Path) -> list[Path]:
    return [path for path in (home / "checkpoints").glob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["classification", "multiple_choice", "regression"])
def test_an_add_resumed_after_ctrl_c_has_the_digest_of_an_undisturbed_one(
    kind: str, stop_after: Stop, backbone: Path, tmp_path: Path
) -> None:
    words = [*data_of(kind, tmp_path), "--epochs", 2, "--backbone", backbone]
    whole = done("--home", tmp_path / "whole", "--json", "add", *words).document
    home = tmp_path / "bank"
    for after in (1, 1, 2):
        stop_after(after)
        assert call("--home", home, "add", *words, "--resume").code == 130
        assert len(checkpoints(home)) == 1
        assert done("--home", home, "--json", "list").document["experts"] == []
    stop_after(0)
    again = done("--home", home, "--json", "add", *words, "--resume").document
    assert again["expert"] == whole["expert"]
    assert again["metrics"] == whole["metrics"]
    for fact in ("examples", "best_epoch", "selection_score"):
        assert again["train"][fact] == whole["train"][fact]
    assert checkpoints(home) == []
    assert done("--home", home, "--json", "verify").document["ok"]
    assert content(home / "objects") == content(tmp_path / "whole" / "objects")


def test_resume_with_nothing_to_resume_just_trains(backbone: Path, tmp_path: Path) -> None:
    words = [*data_of("classification", tmp_path), "--epochs", 1, "--backbone", backbone]
    one = done("--home", tmp_path / "one", "--json", "add", *words).document
    two = done("--home", tmp_path / "two", "--json", "add", *words, "--resume").document
    assert one["expert"] == two["expert"]
    assert checkpoints(tmp_path / "one") == checkpoints(tmp_path / "two") == []


def test_resume_with_other_settings_or_rows_is_refused_and_says_what_to_do(
    stop_after: Stop, backbone: Path, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    words = [*data_of("classification", tmp_path), "--epochs", 2, "--backbone", backbone]
    stop_after(1)
    assert call("--home", home, "add", *words).code == 130
    (kept,) = checkpoints(home)
    state = kept.read_bytes()
    stop_after(0)
    other = ["--task", "it", "--data", write_task(tmp_path / "other.csv", "mood", 60, seed=3)]
    for changed in (
        [*words, "--lr", 0.001],
        [*words, "--seed", 5],
        [*words, "--epochs", 3],
        [*words, "--balance"],
        [*words, "--limit", 30],
        [*other, "--epochs", 2],
    ):
        answer = call("--home", home, "add", *changed, "--resume")
        assert answer.code == 2
        assert "leave --resume out" in " ".join(answer.err.split())
        assert kept.read_bytes() == state, "what can be resumed stays"
    whole = done("--home", tmp_path / "whole", "--json", "add", *words).document["expert"]
    assert done("--home", home, "--json", "add", *words, "--resume").document["expert"] == whole


def test_without_resume_it_starts_anew(stop_after: Stop, backbone: Path, tmp_path: Path) -> None:
    home = tmp_path / "bank"
    words = [*data_of("classification", tmp_path), "--epochs", 2, "--backbone", backbone]
    stop_after(1)
    assert call("--home", home, "add", *words).code == 130
    stop_after(0)
    fresh = done("--home", home, "--json", "add", *words, "--lr", 0.001).document["expert"]
    whole = done("--home", tmp_path / "w", "--json", "add", *words, "--lr", 0.001).document
    assert fresh == whole["expert"]
    assert checkpoints(home) == []


def test_a_damaged_state_is_refused_and_a_new_start_works(
    stop_after: Stop, backbone: Path, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    words = [*data_of("classification", tmp_path), "--epochs", 1, "--backbone", backbone]
    stop_after(1)
    assert call("--home", home, "add", *words).code == 130
    stop_after(0)
    (kept,) = checkpoints(home)
    kept.write_bytes(kept.read_bytes()[:100])
    assert call("--home", home, "add", *words, "--resume").code == 13
    done("--home", home, "add", *words)


def test_an_interrupted_task_does_not_hinder_another(
    stop_after: Stop, backbone: Path, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    words = [*data_of("classification", tmp_path), "--epochs", 2, "--backbone", backbone]
    stop_after(2)
    assert call("--home", home, "add", *words).code == 130
    stop_after(0)
    poll = write_task(tmp_path / "poll.csv", "poll", 40)
    done("--home", home, "add", "--task", "poll", "--data", poll, "--epochs", 1, "--resume")
    assert [path.stem for path in checkpoints(home)] == ["it"]
    whole = done("--home", tmp_path / "whole", "--json", "add", *words).document["expert"]
    assert done("--home", home, "--json", "add", *words, "--resume").document["expert"] == whole


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_an_add_killed_while_training_resumes_to_the_digest_of_an_undisturbed_one(
    backbone: Path, tmp_path: Path
) -> None:
    import torch

    data = write_task(tmp_path / "mood.csv", "mood", 160)
    words = ["add", "--task", "mood", "--data", data, "--backbone", backbone]
    words += ["--epochs", 60, "--patience", 60]
    home, kept = tmp_path / "bank", tmp_path / "bank" / "checkpoints" / "mood.safetensors"
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for resume in ([], ["--resume"]):
        before = kept.stat().st_mtime_ns if kept.exists() else None
        with subprocess.Popen(
            [*COMMAND, "--home", str(home), *map(str, [*words, *resume])],
            env=threads,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None:
                if kept.exists() and kept.stat().st_mtime_ns != before:
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.002)
            assert process.wait(timeout=60) == -signal.SIGKILL
        assert done("--home", home, "--json", "list").document["experts"] == []
    resumed = done("--home", home, "--json", *words, "--resume").document
    whole = done("--home", tmp_path / "whole", "--json", *words).document
    assert resumed["expert"] == whole["expert"]
    assert resumed["metrics"] == whole["metrics"]
    assert checkpoints(home) == []
    assert done("--home", home, "--json", "verify").document["ok"]
