"""A task of two texts through the whole job: its head reads the pair wherever it is served."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path
from typing import Any

import pytest
from small_bank import SHORT, add

from expertbank import AdapterConfig, Bank, Row, load_bundle

WORDS = ("sky", "blue", "river", "bank", "money", "loan", "film", "plot")


def pair_rows(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Two texts each, and whether they are of the same words."""
    rng = random.Random(seed)
    rows: dict[tuple[str, str], str] = {}
    while len(rows) < count:
        words = rng.sample(WORDS, 3)
        same = len(rows) % 2
        other = rng.sample(words, 3) if same else rng.sample(WORDS, 3)
        rows.setdefault((" ".join(words), " ".join(other)), "same" if same else "other")
    return [(*texts, label) for texts, label in rows.items()]


@pytest.fixture(scope="module")
def bank(backbone_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("pairs")
    data = folder / "alike.csv"
    with data.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "text_pair", "label"), *pair_rows(120, 0)])
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        bank.init(max_length=32)
        bank.add("alike", data=data, train=SHORT)
        bank.add("plain", data=data, train=SHORT, adapter=AdapterConfig(pooling="mean"))
        add(bank, "films", folder)
        bank.retrain_router()
        yield bank


ASKED = [Row(one, other) for one, other, _ in pair_rows(6, 9)]


def test_its_head_is_three_times_as_wide_unless_another_way_was_asked_for(bank: Bank) -> None:
    params = {one.task: one.head_params for one in bank.experts()}
    assert params["plain"] == params["films"]
    hidden = (params["plain"] - 2) // 2
    assert params["alike"] == 2 * 3 * hidden + 2


def test_batches_with_other_heads_answer_as_each_alone_and_every_row_verifies(bank: Bank) -> None:
    mixed = [*ASKED, Row("sky blue"), Row("a film")]
    together = list(bank.predict(mixed))
    assert len({line.task for line in together}) > 1
    for row, line in zip(mixed, together, strict=True):
        alone = next(iter(bank.predict([row], task=line.task)))
        assert line.scores == pytest.approx(alone.scores, abs=1e-5)
    assert bank.forgetting_report(verify=True).weights_unchanged


def test_a_bundle_the_readmes_lines_and_another_bank_answer_as_this_one(
    bank: Bank, tmp_path: Path, backbone_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    bank.export(tmp_path / "bundle")
    here = list(bank.predict(ASKED))
    assert list(load_bundle(tmp_path / "bundle").predict(ASKED)) == here
    bank.export(tmp_path / "peft", format="peft", tasks=["alike"])
    folder = tmp_path / "peft" / "alike"
    (folder / "backbone").symlink_to(backbone_folder("bert"))
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(compile(code, "README.md", "exec"), names)
    for row in (*ASKED, Row("sky blue")):
        (wanted,) = bank.predict([row], task="alike")
        found = names["answer"](row.text, row.text_pair)
        assert found == pytest.approx(wanted.scores, abs=1e-5)
    data = tmp_path / "alike.csv"
    with data.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "text_pair", "label"), *pair_rows(120, 0)])
    with Bank.open(tmp_path / "other", backbone=str(backbone_folder("bert"))) as other:
        other.init(max_length=32)
        done = other.import_peft(tmp_path / "peft" / "alike", "alike", data=data)
        assert done.origin["head"] == "export"
        both = (list(one.predict(ASKED, task="alike")) for one in (bank, other))
        for found, expected in zip(*both, strict=True):
            assert found.scores == pytest.approx(expected.scores, abs=1e-5)
