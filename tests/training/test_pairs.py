"""Heads of rows with two texts: they read how the two differ and agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import HIDDEN, random_rows, spec_of
from torch import Tensor

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import collate
from expertbank.backbones.running import call_backbone
from expertbank.config import AdapterConfig, TrainConfig
from expertbank.errors import IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.models.expert_file import ExpertFile
from expertbank.models.heads import head_input
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow
from expertbank.training.expert import train_expert
from expertbank.training.job import ExpertJob


def pairs(count: int, seed: int) -> tuple[EncodedRow, ...]:
    """Random rows, the second text of which begins after some of the tokens."""
    rows = random_rows(count, seed, lengths=tuple(range(4, 15)))
    return tuple(
        replace(row, second=(2 + place % (row.length - 3),)) for place, row in enumerate(rows)
    )


def trained(
    backbone: Backbone,
    rows: Sequence[EncodedRow],
    of_kind: str = "classification",
    **adapter: Any,
) -> ExpertFile:
    """One step on some rows, at a rate that shows."""
    wish = AdapterConfig(tt_rank=3, alpha=4.0, **adapter)
    config = TrainConfig(epochs=1, batch_size=16, lr=0.5, warmup=0.0)
    labels, spec = ("no", "yes"), spec_of(backbone)
    given = tuple(rows[:16]), tuple(rows[16:])
    job = ExpertJob("colour", of_kind, labels, *given, wish, config, spec)
    return train_expert(job, backbone).file


def expected(backbone: Backbone, file: ExpertFile, row: EncodedRow) -> Tensor:
    """Logits of a row alone, its tokens taken one by one in float64."""
    with torch.no_grad():
        factors = file.adapter().collapse()
        batch = collate([row], [0], backbone.tokenizer.pad_token_id, backbone.device)
        with hooks.bound(backbone.model, lambda: factors, list(factors)):
            states = call_backbone(backbone, batch)[0].double().tolist()
    start = row.second[0] if row.second else 0
    parts = (states, states[:start] or states, states[start:])
    mean, u, v = ([sum(column) / len(part) for column in zip(*part, strict=True)] for part in parts)
    unit = [[x / (sum(y * y for y in one) / len(one)) ** 0.5 for x in one] for one in (mean, u, v)]
    read = [
        *unit[0],
        *(abs(x - y) for x, y in zip(unit[1], unit[2], strict=True)),
        *(x * y for x, y in zip(unit[1], unit[2], strict=True)),
    ]
    weight, bias = (file.tensors[f"head.{name}"].double() for name in ("weight", "bias"))
    return (weight @ torch.tensor(read).double() + bias).float()


def test_a_head_of_pairs_reads_mean_difference_and_product(load_tiny: Any) -> None:
    backbone = load_tiny("bert")
    file = trained(backbone, pairs(24, 1))
    assert file.pooling == "pair"
    again = ExpertFile.from_bytes(file.to_bytes(), "expert")
    served = again.collapse("colour@1", backbone.device, torch.float32)
    model = RoutedModel(backbone, spec_of(backbone), ExpertPool.holding({"colour@1": served}))
    rows = [*pairs(6, 3), *random_rows(2, 4)]  # it may be asked about one text, too
    batch = collate(rows, range(8), backbone.tokenizer.pad_token_id, backbone.device)
    found = model(batch, lambda _, places: ["colour@1"] * len(places)).logits
    for row, logits in zip(rows, found, strict=True):
        torch.testing.assert_close(logits, expected(backbone, file, row), rtol=0, atol=1e-4)


def test_padding_on_either_side_is_no_part_of_a_pair() -> None:
    rows = [*pairs(6, 3), *random_rows(2, 4)]
    states = [torch.randn(row.length, HIDDEN) for row in rows]

    def read(*, left: bool) -> Tensor:
        batch = collate(rows, range(8), 0, torch.device("cpu"), left=left)
        last = torch.full((*batch.input_ids.shape, HIDDEN), 9.0)
        for place, own in enumerate(states):
            last[place, batch.attention_mask[place].bool()] = own
        return head_input(last, batch, "pair")

    torch.testing.assert_close(read(left=True), read(left=False))


def test_heads_of_pairs_and_of_single_texts_answer_in_one_batch_as_alone(load_tiny: Any) -> None:
    backbone = load_tiny("bert")
    rows = pairs(24, 1)
    files = [
        trained(backbone, rows),
        trained(backbone, rows, pooling="mean"),
        trained(backbone, rows, pooling="last"),
    ]
    assert [file.tensors["head.weight"].shape[1] // HIDDEN for file in files] == [3, 1, 1]
    experts = {
        f"{place}@1": file.collapse(f"{place}@1", backbone.device, torch.float32)
        for place, file in enumerate(files)
    }
    model = RoutedModel(backbone, spec_of(backbone), ExpertPool.holding(experts))
    asked = pairs(12, 4)

    def chosen(_: Tensor, places: Sequence[int]) -> list[str]:
        return [f"{place % 3}@1" for place in places]

    mixed = model(collate(asked, range(12), 0, backbone.device), chosen).logits
    for place in range(12):
        alone = model(collate(asked, [place], 0, backbone.device), chosen).logits[0]
        torch.testing.assert_close(mixed[place], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "rows", "read"),
    [
        ("bert", pairs(24, 1), "pair"),
        ("roberta", pairs(24, 1), "pair"),  # whose tokens have no types
        ("bert", (*pairs(23, 1), *random_rows(1, 2)), "mean"),
        ("bert", random_rows(24, 1), "mean"),
        ("llama", pairs(24, 1), "last"),
    ],
)
def test_left_open_pairs_are_read_as_such_by_encoders_alone(
    load_tiny: Any, family: str, rows: tuple[EncodedRow, ...], read: str
) -> None:
    # The row of one text stands first, among those that are trained on.
    assert trained(load_tiny(family), rows[::-1]).pooling == read


def test_left_open_choices_are_read_by_their_mean(load_tiny: Any) -> None:
    rows = [
        EncodedRow(one.sequences + two.sequences, one.type_ids + two.type_ids, 0, second=(3, 3))
        for one, two in zip(pairs(24, 1), pairs(24, 2), strict=True)
    ]
    assert trained(load_tiny("bert"), rows, "multiple_choice").pooling == "mean"
    assert trained(load_tiny("bert"), rows, "multiple_choice", pooling="pair").pooling == "pair"


def test_left_open_pairs_with_a_number_are_read_by_their_mean(load_tiny: Any) -> None:
    rows = [replace(row, target=0.5 * place) for place, row in enumerate(pairs(24, 1))]
    assert trained(load_tiny("bert"), rows, "regression").pooling == "mean"
    assert trained(load_tiny("bert"), rows, "regression", pooling="pair").pooling == "pair"


@pytest.mark.parametrize(
    "reading", [{"scaled": False, "dense": None}, {"scaled": True, "dense": "tanh"}]
)
def test_a_file_of_pairs_that_are_read_in_a_way_nobody_writes_is_refused(
    load_tiny: Any, reading: dict[str, Any]
) -> None:
    file = trained(load_tiny("bert"), pairs(24, 1))
    data = replace(file, **reading).to_bytes()
    with pytest.raises(IntegrityError, match="unknown way of reading"):
        ExpertFile.from_bytes(data, "expert")
    tensors, metadata = read_safetensors(file.to_bytes(), "expert")
    with pytest.raises(IntegrityError, match="unknown pooling"):
        ExpertFile.from_bytes(write_safetensors(tensors, {**metadata, "pooling": "pairs"}), "x")


def test_a_head_of_pairs_that_is_as_narrow_as_others_is_refused(load_tiny: Any) -> None:
    backbone = load_tiny("bert")
    file = replace(trained(backbone, random_rows(24, 1)), pooling="pair")
    served = file.collapse("colour@1", backbone.device, torch.float32)
    model = RoutedModel(backbone, spec_of(backbone), ExpertPool.holding({"colour@1": served}))
    with pytest.raises(IntegrityError, match=f"reads {HIDDEN} numbers; on this backbone it would"):
        model.stack(["colour@1"])
