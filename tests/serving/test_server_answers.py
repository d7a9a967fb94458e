"""What a server answers, and what it refuses before it queues anything."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving_bank import CHOICES, GROUP, ask, rows

from expertbank import Bank, Row
from expertbank.errors import InputError, NotFoundError
from expertbank.serving.asking import Ask
from expertbank.serving.errors import DeadlineError, NotReadyError, TooLargeError
from expertbank.serving.from_bank import BankSource
from expertbank.serving.from_bundle import BundleSource
from expertbank.serving.limits import ServeConfig
from expertbank.serving.server import Server


def test_a_request_is_answered_as_predict_answers_it_and_in_its_order(
    server: Server, bank: Bank
) -> None:
    wanted = bank.predict(list(rows(100)))
    answered = server.submit(ask(100)).result(60)
    assert [one.index for one in answered.predictions] == list(range(100))
    for found, expected in zip(answered.predictions, wanted, strict=True):
        assert (found.expert, found.label, found.unknown) == (
            expected.expert,
            expected.label,
            expected.unknown,
        )
        assert found.scores == pytest.approx(expected.scores, abs=1e-5)
        assert [one.expert for one in found.answers] == [one.expert for one in expected.answers]
    assert answered.queued_seconds >= 0
    assert answered.inference_seconds > 0


def test_many_threads_that_ask_for_different_things_each_get_their_own_answer(
    server: Server, bank: Bank
) -> None:
    models = ("auto", "films", "laws", "mood", GROUP)
    texts = rows(200)
    wanted = {
        model: bank.predict(list(texts), task=None if model == "auto" else model)
        for model in models
        if model != GROUP
    }

    def one(seed: int) -> None:
        rng = random.Random(seed)
        model = rng.choice(models)
        places = rng.sample(range(len(texts)), rng.choice((1, 1, 2, 7, 40)))
        answered = server.submit(Ask(tuple(texts[p] for p in places), model)).result(60)
        for place, found in zip(places, answered.predictions, strict=True):
            if model == GROUP:
                assert {answer.task for answer in found.answers} == {"films", "mood"}
                expected = [wanted[answer.task][place] for answer in found.answers]
            else:
                expected = [wanted[model][place]]
            for answer, own in zip(found.answers or (found,), expected, strict=False):
                assert (answer.expert, answer.label) == (own.expert, own.label)
                assert answer.scores == pytest.approx(own.scores, abs=1e-5)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(150)))


def test_an_older_version_of_an_expert_is_asked_by_its_number(server: Server) -> None:
    texts = rows(10)
    older, newest, named = (
        server.submit(Ask(texts, "laws", version)).result(60).predictions
        for version in (1, 2, None)
    )
    assert {one.expert for one in older} == {"laws@1"}
    assert {one.expert for one in newest} == {"laws@2"}
    assert [one.scores for one in named] == [one.scores for one in newest]
    assert [one.scores for one in older] != [one.scores for one in newest]


def test_the_state_tells_every_name_that_can_be_asked(server: Server, bank: Bank) -> None:
    models = {model.name: model for model in server.current.models}
    assert list(models) == ["auto", "films", "laws", "mood", "places", GROUP]
    router = bank.registry.router()
    auto = models["auto"]
    assert (auto.kind, auto.versions, auto.digest) == ("router", (3,), router.digest)
    laws = models["laws"]
    assert (laws.versions, laws.newest, laws.expert) == ((1, 2), 2, "laws@2")
    assert laws.digest == bank.registry.expert("laws@2").digest
    assert {"n", "accuracy", "majority"} <= set(laws.metrics)
    assert models["films"].group == GROUP
    assert models[GROUP].tasks == ("films", "mood")
    assert models["places"].shapes == ("choices",)


def test_bank_and_bundle_offer_the_same_models_and_answers(
    server: Server, home: Path, made_bank: Path
) -> None:
    source = BundleSource(home / "bundle", str(made_bank / "bert"))
    other = Server(source, ServeConfig(reload="off"))
    other.start()
    try:
        state = other.wait_ready(60)
        assert state.router_version == server.current.router_version == 3
        assert state.router_digest == server.current.router_digest
        names = [model.name for model in state.models]
        assert names == [model.name for model in server.current.models]
        for model in ("auto", "laws", GROUP):
            found, expected = (
                one.submit(ask(20, model)).result(60).predictions for one in (other, server)
            )
            assert [one.label for one in found] == [one.label for one in expected]
        with pytest.raises(NotFoundError, match="no version 1; known: 2"):
            other.submit(ask(1, "laws", version=1))
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (Ask(()), InputError, "no row"),
        (ask(1, "lawz"), NotFoundError, "did you mean laws"),
        (ask(1, "laws", version=9), NotFoundError, "no version 9; known: 1, 2"),
        (ask(1, version=2), NotFoundError, "'auto' has no version 2; known: 3"),
        (ask(1, GROUP, version=1), NotFoundError, "leave the version out"),
        (ask(1, fallback="nothing"), NotFoundError, "no task named 'nothing'"),
        (ask(1, abstain=True, fallback="laws"), InputError, "only one of them"),
        (ask(1, "laws", abstain=True), InputError, "only the model 'auto'"),
        (Ask((*rows(2), Row("  "))), InputError, "row 2"),
        (Ask((CHOICES,), "laws"), InputError, "row 0: it brings choices"),
        (Ask(rows(1), "places"), InputError, "row 0: it brings no choices"),
        (ask(513), TooLargeError, "513 rows, more than 512"),
    ],
)
def test_what_cannot_be_answered_is_refused_at_once_and_takes_no_room(
    server: Server, asked: Ask, error: type[Exception], message: str
) -> None:
    for _ in range(3):
        with pytest.raises(error, match=message):
            server.submit(asked)
    assert server.waiting_rows == 0
    assert len(server.submit(ask(512)).result(60).predictions) == 512


def test_a_deadline_that_has_passed_is_refused(server: Server) -> None:
    with pytest.raises(DeadlineError):
        server.submit(ask(), deadline=0.0)


def test_a_bank_without_a_router_answers_named_tasks_only(tmp_path: Path, made_bank: Path) -> None:
    from serving_bank import add

    with Bank.open(tmp_path / "bank", backbone=str(made_bank / "bert")) as bank:
        made = Server(BankSource(bank), ServeConfig(reload_seconds=0.05))
        made.start()
        try:
            with pytest.raises(NotFoundError):
                made.wait_ready(30)
            assert made.state == "broken"
            with pytest.raises(NotReadyError):
                made.submit(ask())
            add(bank, "laws", tmp_path)
            deadline = 100
            while made.state != "ready" and deadline:
                made._keeper._ending.wait(0.1)
                deadline -= 1
            assert made.state == "ready", made.why
            assert made.submit(ask(1, "laws")).result(30).predictions[0].task == "laws"
            with pytest.raises(NotFoundError, match="no router"):
                made.submit(ask())
        finally:
            made.stop()
