"""The search for settings: seeded, resumable, ended early, within its time, and told in full."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import count
from random import Random

import pytest
from jobs import job_for

from expertbank.config import AdapterConfig, TuneConfig
from expertbank.errors import InputError, IntegrityError, TrainingError
from expertbank.records import ProgressEvent
from expertbank.training import tuning
from expertbank.training.tuning import DECAYS, RATES, tune

pytest.importorskip("optuna")


def found(bert, trials: int = 7, **wishes):
    job = wishes.pop("job", None) or job_for(bert, epochs=3, rows=32)
    return tune(job, bert, TuneConfig(trials=trials, minutes=wishes.pop("minutes", 60)), **wishes)


def without_times(facts: dict) -> dict:
    return {**facts, "tried": [{**one, "seconds": 0} for one in facts["tried"]]}


def test_the_first_trial_is_the_users_own_and_what_is_chosen_is_no_worse(bert) -> None:
    job = job_for(bert, epochs=3, rows=32, lr=2e-3, head_lr=5e-4)
    one = found(bert, job=job)
    first, chosen = one.facts["tried"][0], one.facts["tried"][one.facts["chosen"]]
    alpha = job.adapter.multiplier(job.spec)
    own = {"lr": 2e-3, "head_lr": 5e-4, "weight_decay": 0.01, "alpha": alpha}
    assert first["settings"] == own
    assert one.facts["score"] == max(chosen["scores"]) >= one.facts["score_before"]
    for name in ("lr", "head_lr"):
        assert getattr(one.train, name) == chosen["settings"][name]
    assert one.train.weight_decay in DECAYS
    assert one.adapter.alpha == chosen["settings"]["alpha"]
    others = dict.fromkeys(("lr", "head_lr", "weight_decay"), 0.0)
    assert replace(one.train, **{**others, "lr": 1, "head_lr": 1}) == replace(
        job.config, **{**others, "lr": 1, "head_lr": 1}
    ), "nothing else is changed"
    assert json.loads(json.dumps(one.facts)) == one.facts


def test_rates_are_searched_around_that_of_the_kind(bert) -> None:
    wish = AdapterConfig(kind="lora", rank=8)
    one = found(bert, job=job_for(bert, epochs=1, rows=16, adapter=wish))
    rates = [trial["settings"]["lr"] for trial in one.facts["tried"]]
    assert rates[0] == 1e-3
    assert len(set(rates)) == len(rates) > 2
    assert all(RATES[0] <= rate / 1e-3 <= RATES[1] for rate in rates)


def test_what_a_task_does_not_have_is_not_searched(load_tiny) -> None:
    llama = load_tiny("llama, tied")
    job = job_for(llama, kind="generation", epochs=1, rows=16)
    one = tune(job, llama, TuneConfig(trials=2, minutes=60))
    assert [set(trial["settings"]) for trial in one.facts["tried"]] == [
        {"lr", "weight_decay", "alpha"}
    ] * 2
    assert one.train.head_lr == job.config.head_lr


def test_the_same_job_and_seed_give_the_same_search(bert) -> None:
    one, other = found(bert), found(bert)
    assert without_times(one.facts) == without_times(other.facts)
    assert (one.adapter, one.train) == (other.adapter, other.train)
    another = found(bert, job=job_for(bert, epochs=3, rows=32, seed=5))
    tried = [[trial["settings"] for trial in a.facts["tried"][1:]] for a in (one, another)]
    assert tried[0] != tried[1]


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_search_that_was_interrupted_goes_on_to_the_same_end(bert, after: int) -> None:
    states: list[bytes] = []
    whole = found(bert, keep=states.append)
    assert len(states) == 7, "one state a trial"
    trained: list[str] = []

    def told(event: ProgressEvent) -> None:
        trained.append(event.stage)

    again = found(bert, resume=states[after - 1], progress=told)
    assert without_times(again.facts) == without_times(whole.facts)
    assert {stage.split(":")[0] for stage in trained} == {
        f"trial {number}/7" for number in range(after + 1, 8)
    }, "what was done is not done again"


def test_an_interrupted_search_ends_the_same_trials_early(bert, monkeypatch) -> None:
    def train(job, backbone, progress, *, watch):
        """Curves that rise and fall, by the settings alone."""
        drawn = Random(repr((job.config.lr, job.config.head_lr, job.adapter.alpha)))
        for epoch in range(6):
            if watch(epoch, drawn.random(), 1.0):
                break

    monkeypatch.setattr(tuning, "train_expert", train)
    ended = 0
    for seed in range(4):
        states: list[bytes] = []
        job = job_for(bert, seed=seed)
        whole = found(bert, 12, job=job, keep=states.append)
        ended += whole.facts["pruned"]
        for state in states[2:-1:2]:
            again = found(bert, 12, job=job, resume=state)
            assert without_times(again.facts) == without_times(whole.facts)
    assert ended


def test_more_trials_go_on_from_fewer(bert) -> None:
    states: list[bytes] = []
    few = found(bert, trials=4, keep=states.append)
    more = found(bert, trials=6, resume=states[-1])
    assert without_times(more.facts)["tried"][:4] == without_times(few.facts)["tried"]
    assert more.facts["trials"] == 6


def test_no_trial_begins_after_the_stated_time_and_one_is_always_made(bert) -> None:
    one = found(bert, trials=50, minutes=1e-9)
    assert (one.facts["trials"], one.facts["wished"], one.facts["chosen"]) == (1, 50, 0)


def test_a_trial_below_the_median_of_those_before_is_ended_early(bert, monkeypatch) -> None:
    numbers = count()

    class Trained:
        pass

    def train(job, backbone, progress, *, watch):
        bad = next(numbers) >= 5
        for epoch in range(6):
            if watch(epoch, 0.1 if bad else 0.5 + epoch / 10, 1.0):
                break
        return Trained()

    monkeypatch.setattr(tuning, "train_expert", train)
    one = found(bert, trials=6)
    last = one.facts["tried"][-1]
    assert one.facts["pruned"] == 1
    assert last["state"] == "pruned"
    assert len(last["scores"]) == 2, "not in its first epoch"


def test_a_trial_that_cannot_be_trained_is_passed_over(bert, monkeypatch) -> None:
    numbers, real = count(), tuning.train_expert

    def train(*args, **kwargs):
        if next(numbers) in {0, 2}:
            raise TrainingError("the loss became nan")
        return real(*args, **kwargs)

    monkeypatch.setattr(tuning, "train_expert", train)
    one = found(bert, trials=4)
    assert [trial["state"] for trial in one.facts["tried"]].count("failed") == 2
    assert one.facts["score_before"] is None
    assert one.facts["chosen"] in {1, 3}


def test_a_search_in_which_nothing_can_be_trained_says_so(bert, monkeypatch) -> None:
    def train(*args, **kwargs):
        raise TrainingError("the loss became nan")

    monkeypatch.setattr(tuning, "train_expert", train)
    with pytest.raises(TrainingError, match="none of 3 trials"):
        found(bert, trials=3)


def test_settings_outside_what_is_searched_are_tried_too(bert) -> None:
    job = job_for(bert, epochs=1, rows=32, lr=0.5, adapter=AdapterConfig(tt_rank=2, alpha=0.01))
    first = found(bert, trials=2, job=job).facts["tried"][0]
    assert first["settings"]["lr"] == 0.5
    assert first["settings"]["alpha"] == 0.01


def test_the_state_of_another_job_is_refused(bert) -> None:
    states: list[bytes] = []
    found(bert, trials=2, keep=states.append)
    with pytest.raises(InputError, match="the interrupted search had other rows"):
        found(bert, trials=3, job=job_for(bert, epochs=2, rows=32), resume=states[-1])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"format":1}', b"\xff"])
def test_a_damaged_state_is_refused(bert, data: bytes) -> None:
    with pytest.raises((IntegrityError, InputError)):
        found(bert, resume=data or b"{")


def test_without_the_extra_it_says_what_to_install(bert, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'expertbank\[tune\]'"):
        found(bert)


def test_the_search_leaves_optunas_own_logging_as_it_was(bert) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    found(bert, trials=2)
    assert optuna.logging.get_verbosity() == before
