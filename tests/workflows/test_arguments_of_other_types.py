"""What a program gives by mistake is refused in a sentence that names the argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from expertbank import Bank, RouterConfig, TrainConfig, load_bundle
from expertbank.errors import InputError
from expertbank.workflows.growing.request import AddRequest

REQUEST = AddRequest("x", "x.csv")


@pytest.fixture
def bank(made_job: Path) -> Iterator[Any]:
    with Bank.open(made_job / "bank") as bank:
        yield bank


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda bank: bank.predict("red", task=["films"]), r"task must be text, got \['films'\]"),
        (lambda bank: bank.predict("red", fallback=3), "fallback must be text, got 3"),
        (lambda bank: bank.predict("red", abstain="no"), "abstain must be true or false"),
        (lambda bank: bank.predict("red", second_opinion=1), "second_opinion must be true or"),
        (lambda bank: bank.remove(["films"]), r"a task is named by text, got \['films'\]"),
        (lambda bank: bank.experts(3), "a task is named by text, got 3"),
        (lambda bank: bank.group("desk", None), "tasks must be text, or several in a list"),
        (lambda bank: bank.ungroup(3), "tasks must be text, or several in a list, got 3"),
        (lambda bank: bank.export("out", tasks=3), "tasks must be text, or several in a list"),
        (lambda bank: bank.map(tasks=[3]), "tasks: number 1 must be text, got 3"),
        (lambda bank: bank.export(None), "the folder to write must be a path, got None"),
        (lambda bank: bank.import_bundle(3), "the bundle must be a path, got 3"),
        (lambda bank: Bank.open(None), "the bank's folder must be a path, got None"),  # type: ignore[arg-type]
        (lambda bank: load_bundle(None), "the bundle must be a path, got None"),  # type: ignore[arg-type]
        (lambda bank: bank.add("x", data=[{"text": "red"}]), "data is list, .*rows.jsonl"),
        (lambda bank: bank.evaluate("films", [{"text": "red"}]), "data is list, .*rows.jsonl"),
        (lambda bank: bank.add("x", data="x.csv", adapter="lora"), "adapter: expected keys"),
        (lambda bank: bank.add("x", data="x.csv", train=3), "train: expected keys"),
        (lambda bank: bank.add("x", data="x.csv", bank="x"), "bank: expected keys"),
        (
            lambda bank: bank.add("x", data="x.csv", epochs=3),
            r"'epochs' is no setting of a bank; give train=TrainConfig\(epochs=…\)",
        ),
        (lambda bank: bank.retrain_router(config="lda"), r"kind=NAME, or as config=RouterConfig"),
        (
            lambda bank: bank.retrain_router("ridge", config=RouterConfig("lda")),
            r"kind=NAME, or as config=RouterConfig",
        ),
        (lambda bank: bank.set_alias(None, 1), "alias None is not usable"),
        (lambda bank: bank.forgetting_report(margin="1"), "the margin is a share .* got '1'"),
        (
            lambda bank: bank.forgetting_report(verify=True, sample=1.5),
            "sample must be a whole num",
        ),
        (lambda bank: bank.forgetting_report(verify=True, sample=0), "sample must be at least 1"),
        (lambda bank: bank.gc(keep_routers=1.5), "keep_routers must be a whole number, got 1.5"),
        (lambda bank: bank.gc(keep_routers=True), "keep_routers must be a whole number, got True"),
        (lambda bank: bank.gc(keep_routers=0), "keep_routers must be at least 1, got 0"),
        (lambda bank: bank.gc(grace_hours="1"), "grace_hours must be a number, got '1'"),
        (lambda bank: bank.gc(grace_hours=-1), r"grace_hours \(--grace\) must be at least 0"),
        (lambda bank: bank.unknowns(["red"], groups=1.5), "groups must be a whole number, got 1.5"),
        (lambda bank: bank.unknowns(["red"], groups=True), "groups must be a whole number, got T"),
        (lambda bank: bank.unknowns(["red"], typical=0), "typical must be at least 1, got 0"),
        (
            lambda bank: bank.predictor().predict("red", batch_size=1.5),
            "batch_size must be a",
        ),
        (lambda bank: bank.predictor().predict("red", batch_size=0), "batch_size must be at least"),
        (
            lambda bank: bank.check(REQUEST, tokens_per_second=0),
            "tokens_per_second must be",
        ),
        (lambda bank: Bank.open("x", lock_wait=-1), "lock_wait must be 0 to 1000000, got -1"),
        (lambda bank: Bank.open("x", lock_wait=float("nan")), "lock_wait must be 0 to 1000000"),
        (lambda bank: Bank.open("x", lock_wait=True), "lock_wait must be a number, got True"),
        (lambda bank: Bank.open("x", cache_bytes=1.5), "cache_bytes must be a whole number"),  # type: ignore[arg-type]
    ],
)
def test_an_argument_of_another_type_is_refused_by_its_name(
    bank: Any, call: Callable[[Any], object], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        call(bank)


def test_settings_may_be_given_as_mappings(bank: Any, tmp_path: Path) -> None:
    request = AddRequest("x", train={"epochs": 3})  # type: ignore[arg-type]
    assert request.train == TrainConfig(epochs=3)


def test_a_closed_bank_opens_its_database_again_when_it_is_asked(made_job: Path) -> None:
    bank = Bank.open(made_job / "bank", read_only=True)
    before = bank.predict("red film")
    bank.close()
    assert bank.predict("red film") == before
    bank.close()
    bank.close()
