"""A field of a settings class is an option, a key of a list and part of the stored run."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import call, done, write_task
from expertbank_cli import requests
from expertbank_cli.options import takes
from typer.testing import CliRunner

from expertbank import AddRequest, Bank
from expertbank.adapters.tt import TT
from expertbank.config import AdapterConfig, BankConfig, TrainConfig
from expertbank.settings import build, options_of, setting


def test_help_of_add_and_init_shows_every_setting_with_its_default() -> None:
    add = " ".join(done("add", "--help").out.split())
    init = " ".join(done("init", "--help").out.split())
    for cls in (*requests.PER_TASK, BankConfig):
        for option in options_of(cls):
            assert f"{option.flag} " in add
            assert (f"{option.flag} " in init) == (cls is BankConfig)
    assert "--head-lr <float> Peak learning rate of the head. Default 0.001." in add
    assert "--keep <features|stats>" in init
    assert "[default" not in add, "a default is said once"


def test_a_new_setting_is_one_line_and_an_option_at_once() -> None:
    @dataclass(frozen=True)
    class Later(TrainConfig):
        momentum: float = setting(0.9, "Share of the last step that is kept.", least=0, below=1)

    got: list[Any] = []

    @takes(Later)
    def train(context: typer.Context, **given: Any) -> None:
        """Train."""
        got.append(build(Later, given))

    app = typer.Typer()
    app.command()(train)
    assert "Share of the last step" in CliRunner().invoke(app, ["--help"]).output
    assert CliRunner().invoke(app, ["--momentum", "0.5", "--epochs", "2"]).exit_code == 0
    assert got == [Later(momentum=0.5, epochs=2)]


def test_whatever_is_asked_of_add_is_a_keyword_in_python() -> None:
    asked = {item.name for item in fields(AddRequest)}
    assert asked <= set(inspect.signature(Bank.add).parameters)
    given = {"task": "mood", "data": "a.csv", "group": "g", "resume": True, "epochs": 2}
    request = requests.request(given)
    assert (request.name, request.data, request.group, request.resume) == ("mood", "a.csv", "g", 1)
    assert request.train == TrainConfig(epochs=2)


def test_what_was_out_of_reach_is_an_option_a_key_and_in_the_stored_run(
    backbone: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    wish = {
        "head_lr": 0.002,
        "weight_decay": 0.1,
        "warmup": 0.2,
        "average_steps": 7,
        "selection_share": 0.25,
        "selection_floor": 5,
        "cache_memory": 3,
        "first_layer": 0,
        "projection": ["value"],
    }
    listed = tmp_path / "tasks.yaml"
    keys = "".join(f"  {key.replace('_', '-')}: {value}\n" for key, value in wish.items())
    listed.write_text(f"- task: mood\n  data: {data}\n{keys}")
    words = ["--projection", "value"]
    for key, value in wish.items():
        words += [] if key == "projection" else [f"--{key.replace('_', '-')}", str(value)]
    add = ["--json", "add", "--epochs", 1, "--backbone", backbone]
    flags = done("--home", tmp_path / "a", *add, "--task", "mood", "--data", data, *words)
    (entry,) = done("--home", tmp_path / "b", *add, "--list", listed).document["added"]
    assert flags.document["expert"] == entry["expert"]
    plain = done("--home", tmp_path / "c", *add, "--task", "mood", "--data", data).document
    assert plain["expert"]["digest"] != entry["expert"]["digest"]
    train = TrainConfig(
        epochs=1,
        lr=0.005,
        head_lr=0.002,
        weight_decay=0.1,
        warmup=0.2,
        average_steps=7,
        selection_share=0.25,
        selection_floor=5,
        cache_bytes=3 * 2**20,
    )
    adapter = AdapterConfig(projections=("value",), alpha=4.0, first_layer=0)
    with Bank.open(tmp_path / "a", read_only=True) as bank:
        run = bank.registry.run(bank.experts()[0].run_id or 0)
    assert TrainConfig(**run.config["train"]) == train
    assert set(run.config["train"]) == set(asdict(train))
    assert run.config["adapter"] == {
        **asdict(TT.settled(adapter)),
        "projections": ["value"],
        "modules": [],
        "settings": [],
    }


def test_a_setting_out_of_bounds_exits_2_before_any_work(tmp_path: Path) -> None:
    home = tmp_path / "bank"
    add = ["--home", home, "add", "--task", "mood", "--data", "nowhere.csv"]
    for words, message in (
        (["--warmup", "1"], "warmup must be at least 0 and below 1"),
        (["--cache-memory", "-1"], "--cache-memory"),
        (["--max-length", "3"], "max_length must be at least 8"),
        (["--projection", "key", "--target", "dense"], "not both"),
        (["--accumulate", "17"], "accumulate must be 1 to the batch size 16"),
        (["--dtype", "float8"], "dtype"),
    ):
        answer = call(*add, *words)
        assert answer.code == 2, words
        assert message in " ".join(answer.err.split()), answer.err
    assert not home.exists()


def test_init_and_add_take_the_same_settings_of_a_bank(backbone: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 40)
    wish = ["--backbone", backbone, "--max-length", 24, "--route-layer", 1, "--keep", "stats"]
    first = done("--home", tmp_path / "a", "--json", "init", *wish).document["feature_spec"]
    add = ["add", "--task", "mood", "--data", data, "--epochs", 1]
    done("--home", tmp_path / "b", *add, *wish)
    assert done("--home", tmp_path / "b", "--json", "init").document["feature_spec"] == first
    answer = call("--home", tmp_path / "a", *add, "--max-length", 32)
    assert answer.code == 2
    assert "initialised with max length 24, not 32" in " ".join(answer.err.split())


def test_a_search_for_settings_stands_in_the_lineage_and_is_trained_as_it_says(
    backbone: Path, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    add = ["--json", "add", "--task", "mood", "--data", data, "--epochs", 2]
    add += ["--backbone", backbone]
    home = ["--home", tmp_path / "bank"]
    found = done(*home, *add, "--tune", 3, "--tune-minutes", 5).document
    tuning = found["tuning"]
    assert (tuning["trials"], tuning["wished"], tuning["minutes"]) == (3, 3, 5.0)
    best = tuning["tried"][tuning["chosen"]]["settings"]
    run = done(*home, "--json", "show", "mood").document["run"]["config"]
    assert run["tuning"] == tuning
    assert run["adapter"]["alpha"] == found["adapter"]["alpha"] == best["alpha"]
    words = [w for n in ("lr", "head_lr", "weight_decay", "alpha") for w in (f"--{n}", best[n])]
    words = [str(word).replace("_", "-") if str(word)[:2] == "--" else word for word in words]
    plain = done("--home", tmp_path / "plain", *add, *words).document
    assert plain["expert"]["digest"] == found["expert"]["digest"]
    assert plain["tuning"] is None
    assert not list((tmp_path / "bank" / "checkpoints").rglob("*.*")), "nothing is left"


def test_add_says_what_a_search_chose_and_what_it_was_good_for(
    backbone: Path, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    add = ["add", "--task", "mood", "--data", data, "--epochs", 1, "--backbone", backbone]
    for number, (words, told) in enumerate(
        (
            (["--tune", 4], " of 4"),
            (["--tune", 4, "--tune-minutes", 1e-9], "best of 1 trial (4 wished, the time was up)"),
        )
    ):
        home = ["--home", tmp_path / f"bank{number}"]
        (line,) = [one for one in done(*home, *add, *words).out.splitlines() if "tuned" in one]
        tuning = done(*home, "--json", "show", "mood").document["run"]["config"]["tuning"]
        best = tuning["tried"][tuning["chosen"]]["settings"]
        assert told in line
        assert all(f"{name.replace('_', ' ')} {best[name]:.3g}" in line for name in best)
        assert f"held-out score {tuning['score']:.3f}" in line
        assert line.endswith(f"as given {tuning['score_before']:.3f}") == (tuning["chosen"] > 0)


def interrupted(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("before", [False, True], ids=["alone", "after a plain one"])
def test_a_search_that_is_interrupted_goes_on_with_resume(
    before: bool, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    from expertbank.training import tuning

    data, real, made = write_task(tmp_path / "mood.csv", "mood", 60), tuning.train_expert, []

    def train(*args: Any, **kwargs: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return real(*args, **kwargs)

    add = ["--json", "add", "--task", "mood", "--data", data, "--epochs", 1, "--tune", 4]
    add += ["--backbone", backbone]
    whole = done("--home", tmp_path / "whole", *add).document
    if before:  # what it leaves is of other settings than those that the search chooses
        with monkeypatch.context() as patch:
            patch.setattr("expertbank.workflows.growing.add.commit", interrupted)
            plain = [word for word in add if word not in {"--tune", 4}]
            assert call("--home", tmp_path / "bank", *plain).code == 130
        assert list((tmp_path / "bank" / "checkpoints").rglob("*.*"))
    monkeypatch.setattr(tuning, "train_expert", train)
    stopped = call("--home", tmp_path / "bank", *add)
    assert stopped.code == 130
    assert "go on with" in stopped.err
    monkeypatch.setattr(tuning, "train_expert", real)
    again = done("--home", tmp_path / "bank", *add, "--resume").document
    assert again["expert"]["digest"] == whole["expert"]["digest"]
    assert again["tuning"]["trials"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tune-minutes", 5], "--tune-minutes bounds a search, and none is asked for"),
        (["--threads", 2], "--threads is for the workers of --on"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    words: list[object], message: str, backbone: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    home = tmp_path / "bank"
    add = ["add", "--task", "mood", "--data", data, "--backbone", backbone]
    answer = call("--home", home, "--json", *add, *words)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.error["message"]
    assert not home.exists()


def test_with_thousands_of_rows_the_default_has_rank_4_and_that_is_told(
    backbone: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 2900)
    add = ["add", "--task", "mood", "--data", data, "--epochs", 1, "--backbone", backbone]
    assert "(lora, rank 4)" in done("--home", tmp_path / "a", *add).out
    with Bank.open(tmp_path / "a", read_only=True) as bank:
        run = bank.registry.run(bank.experts()[0].run_id or 0)
    adapter, train = run.config["adapter"], run.config["train"]
    assert (adapter["kind"], adapter["rank"], train["lr"]) == ("lora", 4, 2e-3)


def test_what_one_kind_of_adapter_alone_can_be_told_is_an_option_a_key_and_in_lineage(
    backbone: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    listed = tmp_path / "tasks.yaml"
    listed.write_text(
        f"- task: mood\n  data: {data}\n  adapter: uni-lora\n  adapter-set: [share=6]\n"
    )
    add = ["--json", "add", "--epochs", 1, "--backbone", backbone]
    words = ["--task", "mood", "--data", data, "--adapter", "uni-lora"]
    told = [*words, "--adapter-set", "share=6"]
    flags = done("--home", tmp_path / "a", *add, *told).document
    (entry,) = done("--home", tmp_path / "b", *add, "--list", listed).document["added"]
    assert flags["expert"] == entry["expert"]
    plain = done("--home", tmp_path / "c", *add, *words).document
    assert plain["expert"]["adapter_params"] > flags["expert"]["adapter_params"]
    with Bank.open(tmp_path / "a", read_only=True) as bank:
        run = bank.registry.run(bank.experts()[0].run_id or 0)
    assert run.config["adapter"]["settings"] == ["share=6"]
    refused = call("--home", tmp_path / "d", *add, *words, "--adapter-set", "shar=6")
    assert refused.code == 2
    assert "share" in refused.err
