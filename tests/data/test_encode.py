"""Encoding gives the tokenizer's own ids and leaves the tokenizer as it was."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from expertbank.data import encode_rows
from expertbank.errors import DataError, InputError
from expertbank.kinds.classification import CLASSIFICATION
from expertbank.kinds.generation import GENERATION
from expertbank.kinds.multiple_choice import MULTIPLE_CHOICE
from expertbank.kinds.regression import REGRESSION
from expertbank.records import Row

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
LONG = (8, 12, 16, 24)
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
    assert row.second == (4,)


def test_a_row_of_one_text_has_no_second(tokenizer: Any) -> None:
    (row,) = encode_rows([Row("sky blue")], tokenizer, CLASSIFICATION, [], 16)
    assert row.second == ()


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


def test_a_text_that_a_chat_template_made_gets_no_special_tokens(tokenizer: Any) -> None:
    made = "is the sky blue yes no light scatters"
    rows = [Row("a b"), Row(made, templated=True), Row(f"{made} a", templated=True), Row("b a")]
    found = encode_rows(rows, tokenizer, None, (), 8)
    ids = tuple(range(4, 12))
    assert [one.sequences for one in found] == [
        ((2, 12, 13, 3),),
        (ids,),
        (ids,),
        ((2, 13, 12, 3),),
    ]
    assert [one.truncated for one in found] == [False, False, True, False]
    assert all(len(one.type_ids[0]) == len(one.sequences[0]) for one in found)


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
    assert got.second == (5, 5)
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


def words_of(rng: random.Random, most: int) -> str:
    return " ".join(rng.choices([*WORDS, "[SEP]", "unknown"], k=rng.randint(1, most)))


@pytest.mark.parametrize("side", ["right", "left"])
def test_long_texts_and_pairs_are_cut_as_the_tokenizer_itself_cuts_them(
    tokenizer: Any, side: str
) -> None:
    tokenizer.truncation_side = side
    rng = random.Random(side)
    for _ in range(400):
        pair = rng.choice([None, words_of(rng, 14)])
        row, length = Row(words_of(rng, 14), pair), rng.randint(4, 20)
        (got,) = encode_rows([row], tokenizer, CLASSIFICATION, [], length)
        own = tokenizer(row.text, row.text_pair, truncation="longest_first", max_length=length)
        assert got.sequences == (tuple(own["input_ids"]),), (row, length)
        types = own.get("token_type_ids") or [0] * len(own["input_ids"])
        assert got.type_ids == (tuple(types),)
        assert got.truncated == bool(own.encodings[0].overflowing)
        of_text = own.sequence_ids(0)
        assert got.second == ((of_text.index(1),) if 1 in of_text else ())


def test_threads_share_a_tokenizer_that_others_use_too(tokenizer: Any) -> None:
    rows = [Row("sky blue " * (n + 1), "light a " * n if n % 2 else None) for n in range(12)]

    def work(length: int) -> list[Any]:
        return [encode_rows(rows, tokenizer, CLASSIFICATION, [], length) for _ in range(100)]

    alone = {length: encode_rows(rows, tokenizer, CLASSIFICATION, [], length) for length in LONG}
    stop = Event()

    def user() -> int:
        calls = 0
        while not stop.is_set():
            assert len(tokenizer("sky " * 30, truncation=True, max_length=9)["input_ids"]) == 9
            assert len(tokenizer("sky " * 30)["input_ids"]) == 32
            calls += 1
        return calls

    with ThreadPoolExecutor(len(LONG) + 1) as threads:
        theirs = threads.submit(user)
        try:
            for length, found in zip(LONG, threads.map(work, LONG), strict=True):
                assert all(one == alone[length] for one in found)
        finally:
            stop.set()
        assert theirs.result() > 0


def test_two_long_texts_take_memory_for_their_tokens_and_not_for_pairs_of_their_parts() -> None:
    script = """
import resource, sys
sys.path.insert(0, "tests")
from tiny import tokenizer
from expertbank.kinds.classification import CLASSIFICATION
from expertbank.kinds.generation import GENERATION
from expertbank.records import Row
from expertbank.data import encode_rows

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

model, text = tokenizer("bert"), "sky blue red " * 8000
encode_rows([Row("sky", "blue")], model, CLASSIFICATION, [], 32)
before = peak()
(row,) = encode_rows([Row(text, text)], model, CLASSIFICATION, [], 32)
assert row.length == 32 and row.truncated
assert peak() - before < 200_000, peak() - before  # kibibytes
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_a_text_to_write_on_keeps_its_end_and_the_router_reads_its_beginning(
    tokenizer: Any,
) -> None:
    tokenizer.add_special_tokens({"eos_token": "[SEP]"})
    words = "is the sky blue yes no light scatters a b"
    rows = [Row(words, label="yes"), Row("sky", label="no"), Row(words, words, label="no")]
    cut, whole, pair = encode_rows(rows, tokenizer, GENERATION, (), 8)
    ids = dict(zip(WORDS, range(4, 14), strict=True))
    assert cut.truncated
    assert cut.sequences == ((2, *(ids[word] for word in words.split()[:6]), 3),)
    written_on = cut.to_write_on
    assert written_on.sequences == ((2, *(ids[word] for word in words.split()[-6:]), 3),)
    assert written_on.type_ids == ((0,) * 8,)
    assert (written_on.continuation, written_on.truncated) == (cut.continuation, True)
    assert written_on.to_write_on is written_on
    assert whole.to_write_on is whole
    last = [ids[word] for word in words.split()[-3:]]
    assert pair.to_write_on.sequences == ((2, *last[1:], 3, *last, 3),)
    (classified,) = encode_rows(rows[:1], tokenizer, CLASSIFICATION, ("yes",), 8)
    assert classified.to_write_on is classified, "what has a head reads the beginning"
