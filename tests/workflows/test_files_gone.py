"""Nothing is made to rest on a file that is gone: who needs it says whose it was and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_bank import texts

from expertbank import Bank
from expertbank.errors import IntegrityError, NotFoundError


def file_of(bank: Bank, digest: str) -> Path:
    return Path(bank._workspace.store.where(digest))


def lose(bank: Bank, digest: str) -> bytes:
    path = file_of(bank, digest)
    data = path.read_bytes()
    path.unlink()
    return data


def active(bank: Bank) -> int:
    return bank.registry.router().version


@pytest.mark.parametrize("activate", [True, False])
def test_retraining_refuses_an_expert_whose_file_is_gone(job: Path, activate: bool) -> None:
    with Bank.open(job / "bank") as bank:
        digest = bank.experts("laws")[0].digest
        data = lose(bank, digest)
        before = bank.routers(), bank.history()
        with pytest.raises(
            IntegrityError, match=r"expert laws@1 is gone: .*backup.*remove --task laws$"
        ):
            bank.retrain_router("ridge", activate=activate)
        assert (bank.routers(), bank.history()) == before
        file_of(bank, digest).write_bytes(data)
        assert bank.retrain_router("ridge").active
        assert bank.predict(texts(2))


def test_every_expert_that_is_gone_is_named(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        for expert in bank.experts():
            lose(bank, expert.digest)
        with pytest.raises(IntegrityError, match=r"films@1(?s:.*)games@1(?s:.*)laws@1"):
            bank.retrain_router()


def test_retraining_refuses_features_that_are_gone_by_the_experts_name(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        lose(bank, bank.registry.feature_set("films").digest)
        with pytest.raises(IntegrityError, match="cached features of films@1 is gone"):
            bank.retrain_router()


def test_leaving_the_task_out_helps_as_the_message_says(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        lose(bank, bank.experts("laws")[0].digest)
        bank.remove("laws")
        assert bank.retrain_router().tasks == ("films", "games")


LOST: dict[str, Callable[[Bank], str]] = {
    "the file of router@2 is gone": lambda bank: bank.registry.router(2).digest,
    "the file of expert laws@1 is gone": lambda bank: bank.experts("laws")[0].digest,
}


@pytest.mark.parametrize("said", LOST)
def test_an_alias_is_not_pointed_at_a_router_that_cannot_answer(said: str, job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        before = active(bank)
        lose(bank, LOST[said](bank))
        for name in ("active", "stable"):
            with pytest.raises(IntegrityError, match=said):
                bank.set_alias(name, 2)
        assert active(bank) == before
        assert [one.name for one in bank.registry.aliases()] == ["active"]
        assert bank.set_alias("active", 1).router_version == 1, "router@1 needs neither file"


def test_what_gc_deleted_on_purpose_is_still_told_as_such(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        bank.remove("laws")
        bank.retrain_router()
        bank.gc(purge_removed=True, grace_hours=0)
        with pytest.raises(NotFoundError, match="deleted after their task was removed"):
            bank.set_alias("active", 2)


@pytest.mark.parametrize("form", ["bundle", "peft"])
def test_an_export_names_the_expert_whose_file_is_gone(form: str, job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        lose(bank, bank.experts("laws")[0].digest)
        with pytest.raises(IntegrityError, match="expert laws@1 is gone"):
            bank.export(job / "new", format=form)  # type: ignore[arg-type]
        assert not (job / "new").exists()
        assert bank.export(job / "new", format=form, tasks=["films", "games"]).experts  # type: ignore[arg-type]


def test_importing_the_expert_again_puts_its_files_back(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        bank.export(job / "saved", for_import=True)
        digests = (bank.experts("laws")[0].digest, bank.registry.feature_set("laws").digest)
        for digest in digests:
            lose(bank, digest)
        (told,) = (
            one
            for one in bank.import_bundle(job / "saved", dry_run=True).skipped
            if one.expert == "laws@1"
        )
        assert "put back" in told.why
        assert not file_of(bank, digests[0]).exists()
        assert bank.import_bundle(job / "saved").imported == ()
        assert bank.verify().ok
        assert bank.retrain_router().active


def test_a_damaged_file_is_left_to_verify(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        path = file_of(bank, bank.experts("laws")[0].digest)
        path.chmod(0o644)
        path.write_bytes(b"damaged")
        assert bank.retrain_router().active
        assert not bank.verify().ok
