"""A newer state is loaded aside and swapped whole: nothing fails, nothing mixes."""

from __future__ import annotations

import gc
import random
import shutil
import threading
from pathlib import Path
from time import monotonic, sleep
from weakref import ref

import pytest
from serving_bank import add, ask, rows

from expertbank import Bank
from expertbank.errors import ExpertBankError, IntegrityError, NotFoundError
from expertbank.serving.answered import Answered
from expertbank.serving.asking import Ask
from expertbank.serving.from_bank import BankSource
from expertbank.serving.from_bundle import BundleSource
from expertbank.serving.limits import ServeConfig
from expertbank.serving.observer import Observer
from expertbank.serving.server import Server

SWAPS = 40


def members(bank: Bank, version: int) -> set[str]:
    return set(bank.registry.router(version).members)


def test_under_constant_swaps_no_request_fails_and_no_answer_mixes_two_routers(
    server: Server, bank: Bank
) -> None:
    """Routers 2 and 3 hold other versions of ``laws``, so every answer shows whose it is."""
    texts = rows(60)
    digests = {expert.id: expert.digest for expert in bank.experts()}
    wanted = {}
    for version in (2, 3):
        bank.set_alias("active", version)
        wanted[version] = bank.predict(list(texts))
    ended, found, failed = threading.Event(), list[tuple[list[int], Answered]](), list[object]()

    def keep_asking(seed: int) -> None:
        rng = random.Random(seed)
        while not ended.is_set():
            places = rng.sample(range(len(texts)), rng.choice((1, 3, 20)))
            try:
                future = server.submit(Ask(tuple(texts[p] for p in places)))
                found.append((places, future.result(60)))
            except Exception as error:  # noqa: BLE001  # any at all is a failure
                failed.append(error)
                return

    threads = [threading.Thread(target=keep_asking, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for number in range(SWAPS):
        bank.set_alias("active", 2 + number % 2)
        state = server.reload()
        assert state is not None
        assert state.router_version == 2 + number % 2
    ended.set()
    for thread in threads:
        thread.join()
    assert failed == []
    versions = set()
    for places, answered in found:
        version = answered.state.router_version
        assert version is not None
        versions.add(version)
        for place, one in zip(places, answered.predictions, strict=True):
            expected = wanted[version][place]
            assert (one.expert, one.label) == (expected.expert, expected.label)
            assert one.expert_digest == digests[expected.expert]
            assert one.confidence == pytest.approx(expected.confidence, abs=1e-4)
    assert versions == {2, 3}
    assert server.why_not_reloaded is None


def test_a_request_is_answered_wholly_by_the_state_it_was_begun_with(bank: Bank) -> None:
    bank.set_alias("active", 2)
    server = Server(BankSource(bank), ServeConfig(reload="off", max_wait_ms=10_000))
    server.start()
    server.wait_ready(60)
    try:
        before = server.submit(ask(20))
        named = server.submit(ask(1, "films"))
        bank.set_alias("active", 3)
        assert server.reload() is not None
        after = server.submit(ask(20))
        assert server.drain(60)
        assert before.result(0).state.router_version == 2
        assert named.result(0).state.router_version == 2
        assert after.result(0).state.router_version == 3
        for future, version in ((before, 2), (after, 3)):
            experts = {one.expert for one in future.result(0).predictions}
            assert experts <= members(bank, version)
    finally:
        server.stop()


class Reloads(Observer):
    def __init__(self) -> None:
        self.told: list[bool] = []

    def reloaded(self, ok: bool) -> None:
        self.told.append(ok)


def test_a_new_router_and_a_new_expert_are_taken_over_by_themselves(
    bank: Bank, tmp_path: Path
) -> None:
    server = Server(BankSource(bank), ServeConfig(reload_seconds=0.05), Reloads())
    server.start()
    first = server.wait_ready(60)
    try:
        with pytest.raises(NotFoundError):
            server.submit(ask(1, "news"))
        add(bank, "laws", tmp_path, seed=2, new_version=True)
        end = monotonic() + 30
        while server.current is first:
            assert monotonic() < end
            sleep(0.02)
        assert server.current.model("laws").versions == (1, 2, 3)
        assert server.current.router_version == 3
        assert server.submit(ask(1, "laws")).result(30).predictions[0].expert == "laws@3"
        assert server.current.model("laws").routed == "laws@2"
        assert server.observer.told == [True]  # type: ignore[attr-defined]
    finally:
        server.stop()


def test_nothing_new_is_no_new_state(server: Server) -> None:
    served = server.current
    assert server.reload() is None
    assert server.current is served


def test_what_cannot_be_loaded_leaves_the_old_state_serving_and_says_why(
    server: Server, bank: Bank, home: Path
) -> None:
    digest = bank.registry.router(2).digest
    (path,) = [one for one in (home / "bank").rglob(f"*{digest[8:]}*") if one.is_file()]
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1] + b"x")
    bank.set_alias("active", 2)
    served = server.current
    with pytest.raises(IntegrityError):
        server.reload()
    assert server.current is served
    assert server.state == "ready"
    assert server.why_not_reloaded is not None
    assert server.submit(ask(3)).result(30).state is served
    path.write_bytes(whole)
    assert server.reload() is not None
    assert server.why_not_reloaded is None
    assert server.current.router_version == 2


def test_experts_that_nobody_needs_any_more_leave_memory(bank: Bank) -> None:
    bank.set_alias("active", 2)
    server = Server(BankSource(bank), ServeConfig(reload="off", reload_seconds=0.05))
    server.start()
    first = server.wait_ready(60)
    try:
        pool = first.predictor.model.pool
        assert len(server.submit(ask(3)).result(30).predictions) == 3
        before = pool.nbytes
        older = ref(first.predictor)
        bank.set_alias("active", 3)
        assert server.reload() is not None
        del first
        end = monotonic() + 30
        while pool.nbytes >= before:  # laws@1 goes: no router that is served chooses it
            assert monotonic() < end
            sleep(0.02)
        gc.collect()
        assert older() is None
    finally:
        server.stop()


def test_a_bundle_that_is_replaced_is_taken_over_and_its_old_answers_still_hold(
    home: Path, bank: Bank, made_bank: Path
) -> None:
    source = BundleSource(home / "bundle", str(made_bank / "bert"))
    server = Server(source, ServeConfig(reload="off", max_wait_ms=10_000))
    server.start()
    first = server.wait_ready(60)
    try:
        assert server.reload() is None
        waiting = server.submit(ask(10))
        bank.set_alias("active", 2)
        bank.export(home / "bundle")
        second = server.reload()
        assert second is not None
        assert (first.router_version, second.router_version) == (3, 2)
        weights = [one.predictor.model.backbone.model for one in (first, second)]
        assert weights[0] is weights[1]
        later = server.submit(ask(10))
        assert server.drain(60)
        assert waiting.result(0).state is first
        assert later.result(0).state is second
    finally:
        server.stop()


def test_a_bundle_that_goes_away_is_served_on_and_said_to_be_gone(
    home: Path, made_bank: Path
) -> None:
    source = BundleSource(home / "bundle", str(made_bank / "bert"))
    server = Server(source, ServeConfig(reload_seconds=0.05))
    server.start()
    server.wait_ready(60)
    try:
        shutil.rmtree(home / "bundle")
        end = monotonic() + 30
        while server.why_not_reloaded is None:
            assert monotonic() < end
            sleep(0.02)
        with pytest.raises(ExpertBankError, match="holds no bundle any more; export one there"):
            server.reload()
        assert server.state == "ready"
        assert len(server.submit(ask(20)).result(30).predictions) == 20
    finally:
        server.stop()
