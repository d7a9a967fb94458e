"""Looking at a bank that is not there makes none, and leaves no file or folder behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_bank import add

from expertbank import Bank
from expertbank.errors import ExpertBankError, NotFoundError

CALLS: dict[str, Callable[[Bank, Path], Any]] = {
    "tasks": lambda bank, _: bank.tasks(),
    "experts": lambda bank, _: bank.experts(),
    "experts of a task": lambda bank, _: bank.experts("films"),
    "routers": lambda bank, _: bank.routers(),
    "history": lambda bank, _: bank.history(),
    "backbone": lambda bank, _: bank.backbone(),
    "default gate": lambda bank, _: bank.default_gate,
    "registry": lambda bank, _: bank.registry,
    "predictor": lambda bank, _: bank.predictor(),
    "predict": lambda bank, _: bank.predict(["sky"]),
    "predict by task": lambda bank, _: bank.predict("sky", task="films"),
    "evaluate": lambda bank, folder: bank.evaluate("films", folder / "rows.csv"),
    "report": lambda bank, _: bank.forgetting_report(),
    "verified report": lambda bank, _: bank.forgetting_report(verify=True),
    "verify": lambda bank, _: bank.verify(),
    "export": lambda bank, folder: bank.export(folder / "bundle"),
    "export for peft": lambda bank, folder: bank.export(folder / "peft", format="peft"),
    "import of nothing": lambda bank, folder: bank.import_bundle(folder / "nowhere"),
    "backup": lambda bank, folder: bank.backup(folder / "copy.db"),
    "restore": lambda bank, folder: bank.restore(folder / "copy.db"),
    "retrain": lambda bank, _: bank.retrain_router(),
    "alias": lambda bank, _: bank.set_alias("active", 1),
    "remove": lambda bank, _: bank.remove("films"),
    "remove, only told": lambda bank, _: bank.remove("films", dry_run=True),
    "gc": lambda bank, _: bank.gc(),
    "gc, only told": lambda bank, _: bank.gc(dry_run=True),
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_made_by_looking_for_a_bank(call: str, tmp_path: Path) -> None:
    with Bank.open(tmp_path / "typo") as bank, pytest.raises(NotFoundError):
        CALLS[call](bank, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", CALLS)
def test_a_folder_that_is_no_bank_stays_as_it_is(call: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "registry.db").touch()  # what a process that was killed while it made one leaves
    with Bank.open(folder) as bank, pytest.raises(ExpertBankError):
        CALLS[call](bank, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "registry.db"]
    assert (folder / "registry.db").stat().st_size == 0


def test_doctor_and_close_make_no_bank_either(tmp_path: Path) -> None:
    bank = Bank.open(tmp_path / "typo")
    assert any(finding.subject == "bank" for finding in bank.doctor().findings)
    bank.close()
    assert list(tmp_path.iterdir()) == []


def test_a_handle_finds_the_bank_that_another_makes_later(
    backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    reference = str(backbone_folder("bert"))
    with Bank.open(tmp_path / "bank") as waiting:
        with pytest.raises(NotFoundError):
            waiting.tasks()
        with Bank.open(tmp_path / "bank", backbone=reference) as maker:
            add(maker, "films", tmp_path)
        assert [task.name for task in waiting.tasks()] == ["films"]
        assert waiting.predict("good film", task="films")[0].expert == "films@1"


def test_a_bank_that_must_exist_is_not_made_by_writing_either(
    backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "registry.db").touch()
    with pytest.raises(NotFoundError), Bank.open(tmp_path / "bank", create=False) as bank:
        bank.init()
    with Bank.open(tmp_path / "bank", backbone=str(backbone_folder("bert"))) as bank:
        assert bank.init() == bank.backbone()
