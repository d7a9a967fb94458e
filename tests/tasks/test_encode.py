"""Encoding gives the tokenizer's own ids and leaves the tokenizer as it was."""

from __future__ import annotations

from typing import Any

import pytest

from expertbank.errors import DataError, InputError
from expertbank.kinds.classification import CLASSIFICATION
from expertbank.kinds.multiple_choice import MULTIPLE_CHOICE
from expertbank.kinds.regression import REGRESSION
from expertbank.records import Row
from expertbank.tasks import encode_rows

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

WORDS = ["is", "the", "sky", "blue", "yes", "no", "light", "scatters", "a", "b"]


@pytest.fixture(params=["bert", "no type ids"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: index for index, word in enumerate([*specials, *WORDS])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", "attention_mask"]
    if request.param == "bert":
        names.append("token_type_ids")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", model_input_names=names
    )


def test_a_pair_becomes_one_sequence_with_its_type_ids(tokenizer: Any) -> None:
    (row,) = encode_rows(
        [Row("sky blue", "light", label="yes")],
        tokenizer,
        CLASSIFICATION,
        ["no", "yes"],
        16,
    )
    assert row.sequences == ((2, 6, 7, 3, 10, 3),)
    typed = "token_type_ids" in tokenizer.model_input_names
    assert row.type_ids == ((0, 0, 0, 0, 1, 1) if typed else (0,) * 6,)
    assert row.target == 1
    assert not row.truncated


def test_rows_keep_their_order_and_equal_the_tokenizer_one_by_one(tokenizer: Any) -> None:
    rows = [Row(" ".join(WORDS[: n % 7 + 1]), "sky a" if n % 3 else None) for n in range(1100)]
    encoded = encode_rows(rows, tokenizer, CLASSIFICATION, [], 8)
    for row, got in zip(rows, encoded, strict=True):
        plain = tokenizer(row.text, row.text_pair, truncation="longest_first", max_length=8)
        assert got.sequences == (tuple(plain["input_ids"]),)
        whole = tokenizer(row.text, row.text_pair)["input_ids"]
        assert got.truncated == (len(whole) > 8)
        assert got.target is None
    assert encode_rows([], tokenizer, CLASSIFICATION, [], 8) == []


@pytest.mark.parametrize("stateful", [False, True])
def test_the_tokenizer_is_left_as_it_was(tokenizer: Any, stateful: bool) -> None:
    backend = tokenizer.backend_tokenizer
    if stateful:
        backend.enable_truncation(max_length=7, stride=1, strategy="only_first", direction="left")
        backend.enable_padding(direction="left", pad_id=0, pad_token="[PAD]", length=9)
    before = backend.to_str()
    encode_rows([Row("sky " * 50)], tokenizer, CLASSIFICATION, [], 8)
    assert backend.to_str() == before
    with pytest.raises(DataError):
        encode_rows([Row("sky", label="?")], tokenizer, CLASSIFICATION, ["a", "b"], 8)
    assert backend.to_str() == before


def test_each_choice_is_encoded_with_its_context(tokenizer: Any) -> None:
    row = Row("sky blue", "is", choices=("a", "b"), label="1")
    (got,) = encode_rows([row], tokenizer, MULTIPLE_CHOICE, ["0", "1"], 16)
    assert got.sequences == ((2, 6, 7, 4, 3, 12, 3), (2, 6, 7, 4, 3, 13, 3))
    assert got.target == 1
    with pytest.raises(DataError, match="needs choices"):
        encode_rows([Row("x", origin="f:3")], tokenizer, MULTIPLE_CHOICE, [], 16)


def test_regression_targets_are_numbers(tokenizer: Any) -> None:
    (got,) = encode_rows([Row("sky", label="2.5")], tokenizer, REGRESSION, [], 16)
    assert got.target == 2.5


def test_a_label_nobody_knows_is_named_with_its_place(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"^f\.csv:3: label 'maybe'"):
        encode_rows(
            [Row("sky", label="maybe", origin="f.csv:3")],
            tokenizer,
            CLASSIFICATION,
            ["no"],
            8,
        )


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(InputError, match="not a fast tokenizer"):
        encode_rows([Row("x")], object(), CLASSIFICATION, [], 8)  # type: ignore[arg-type]
