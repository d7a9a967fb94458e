"""The dry run counts what training would see, in the backbone's tokens or in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from expertbank.config import TrainConfig
from expertbank.data import Columns, LengthCounter, TaskSpec, check_task, length_counter, load_task
from expertbank.errors import InputError

WORDS = length_counter("nowhere/to-be-found")


def _file(path: Path, rows: int = 100) -> Path:
    lines = "".join(f"row {n} {'long ' * (n % 10)},{n % 4 // 3}\n" for n in range(rows))
    path.write_text(f"text,label\n{lines}")
    return path


def test_it_says_what_training_would_get(tmp_path: Path) -> None:
    path = str(_file(tmp_path / "a.csv"))
    config = TrainConfig(limit=50, eval_limit=10, epochs=2, seed=3)
    found = check_task(
        TaskSpec("mine"), path, WORDS, train=config, max_length=8, tokens_per_second=10
    )
    data = load_task(TaskSpec("mine"), path, limit=50, eval_limit=10, seed=3)
    assert found.data == data
    assert found.labels == {
        label: tuple(
            sum(row.label == label for row in part) for part in (data.train, data.validation)
        )
        for label in ("0", "1")
    }
    assert found.plan.train + found.plan.selection == 50
    assert found.plan.validation == 10
    assert found.plan.seconds == round(found.plan.tokens * 2 / 10, 1)
    sizes = [len(row.text.split()) for row in (*data.train, *data.validation)]
    lengths = found.lengths
    assert (lengths.unit, lengths.counted) == ("words", 60)
    assert (lengths.least, lengths.most) == (min(sizes), max(sizes))
    assert lengths.truncated == sum(size > 8 for size in sizes)
    assert found.majority is not None
    assert found.majority >= 0.5
    assert any("are longer than 8 tokens" in text for text in found.warnings)
    assert any("lengths are in words" in text for text in found.warnings)
    assert found.to_dict()["rows"]["over_limit"] == 40


def test_targets_are_summed_up_and_each_choice_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"t{n},{n / 2}\n" for n in range(50)))
    values = check_task(TaskSpec("mine", kind="regression"), str(path), WORDS)
    assert values.values["least"] < values.values["mean"] < values.values["most"]
    assert (values.labels, values.majority) == ({}, None)
    path.write_text("q,a,b,key\n" + "".join(f"t{n},one,two three,{n % 2}\n" for n in range(50)))
    spec = TaskSpec("mine").with_columns(Columns("q", choices=("a", "b"), label="key"))
    found = check_task(spec, str(path), WORDS)
    assert (found.lengths.least, found.lengths.most) == (3, 3)
    assert found.plan.tokens == 5 * found.plan.train


def test_tokens_are_those_of_the_backbone(backbone_folder: object, tmp_path: Path) -> None:
    folder = backbone_folder("bert")  # type: ignore[operator]
    counter = length_counter(str(folder))
    assert counter.unit == "tokens"
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [("the sky", None), ("the sky", "is blue and red")]
    expected = [len(tokenizer(*text)["input_ids"]) for text in texts]
    assert [len(part) for part in counter.parts(texts)] == expected
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer file"):
        length_counter(str(tmp_path))


def test_a_text_of_any_length_is_counted_up_to_a_bound(tmp_path: Path) -> None:
    seen: list[int] = []

    def parts(texts: object) -> list[Sequence[int]]:
        seen.extend(len(text) for text, _ in texts)  # type: ignore[attr-defined]
        return [[1]] * len(texts)  # type: ignore[arg-type]

    rows = "".join(f"{'x' * 300_000}{n},{n % 2}\n" for n in range(10))
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}")
    check_task(TaskSpec("mine"), str(tmp_path / "a.csv"), LengthCounter("tokens", parts))
    assert max(seen) == 50_000
