"""``Bank.check`` tells what ``add`` would be given and what stands in its way, before training."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_bank import write_task

from expertbank import AddRequest, Bank, BankConfig, TrainConfig
from expertbank.data import BadRowsError


def test_without_a_bank_rows_are_looked_at_and_none_is_made(tmp_path: Path) -> None:
    data = write_task(tmp_path / "films.csv", "films", 40)
    train = TrainConfig(epochs=3)
    with Bank.open(tmp_path / "bank") as bank:
        found = bank.check(AddRequest("films", data, train=train, bank=BankConfig(max_length=16)))
    assert found.data.counts["read"] == 40
    assert (found.plan.epochs, found.lengths.limit) == (3, 16)
    assert not (tmp_path / "bank").exists()


def test_what_the_bank_would_refuse_comes_first(made_job: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "films.csv", "films", 40)
    with Bank.open(made_job / "bank", read_only=True) as bank:
        first, *_ = bank.check(AddRequest("films", data)).warnings
        again = bank.check(AddRequest("films", data, new_version=True)).warnings
    assert first == "the bank has films@1: add needs --new-version"
    assert first not in again


def test_rows_that_leave_nothing_to_train_on_are_refused_with_all_their_faults(
    tmp_path: Path,
) -> None:
    (tmp_path / "bad.csv").write_text("text,label\n" + "no label,\n" * 30)
    with (
        Bank.open(tmp_path / "bank") as bank,
        pytest.raises(BadRowsError) as caught,
    ):
        bank.check(AddRequest("films", tmp_path / "bad.csv"))
    assert caught.value.faults.rows == 30
