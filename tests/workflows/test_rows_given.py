"""Bank and bundle take rows in the same forms, refuse bad ones at the call, and share threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bank import texts

from expertbank import Bank, Prediction, Predictor, Row, load_bundle
from expertbank.errors import InputError, NotFoundError

ROWS = texts(8)
Ask = Callable[..., list[Prediction]]


@pytest.fixture(params=["bank", "bundle"])
def ask(request: pytest.FixtureRequest, made_job: Path) -> Iterator[Ask]:
    if request.param == "bundle":
        bundle = load_bundle(made_job / "bundle")
        yield lambda *rows, **options: list(bundle.predict(*rows, **options))
        return
    with Bank.open(made_job / "bank", read_only=True) as bank:
        yield bank.predict


@pytest.fixture
def predictor(made_job: Path) -> Predictor:
    return load_bundle(made_job / "bundle")


def test_one_row_and_all_forms_of_many_are_answered_alike(ask: Ask) -> None:
    pandas = pytest.importorskip("pandas")
    datasets = pytest.importorskip("datasets")
    expected = ask(ROWS)
    assert len(expected) == len(ROWS)
    forms: list[Any] = [
        tuple(ROWS),
        iter(ROWS),
        [Row(text) for text in ROWS],
        [{"text": text, "text_pair": float("nan"), "label": "?"} for text in ROWS],
        np.array(ROWS),
        pandas.DataFrame({"text": ROWS, "text_pair": [None] * len(ROWS)}),
        pandas.Series(ROWS),
        datasets.Dataset.from_dict({"text": ROWS}),
    ]
    for form in forms:
        assert ask(form) == expected, type(form)
    (alone,) = ask(ROWS[0])
    assert (alone.index, alone.expert, alone.label) == (0, expected[0].expert, expected[0].label)
    assert ask({"text": ROWS[0]}) == ask(Row(ROWS[0])) == ask([ROWS[0]]) == [alone]
    assert ask([]) == []


@pytest.mark.parametrize(
    "bad",
    [b"sky", 7, None, {"sky": 1}, ["sky", None], ["sky", " "], {"text": "sky", "choices": "abc"}],
)
def test_bad_rows_in_memory_are_refused_before_any_row_is_answered(
    predictor: Predictor, bad: Any
) -> None:
    with pytest.raises(InputError):
        predictor.predict(bad)
    assert predictor.model.pool.nbytes == 0


def test_bad_options_are_refused_at_the_call_too(predictor: Predictor) -> None:
    with pytest.raises(NotFoundError, match="no task named 'filns'"):
        predictor.predict(ROWS, task="filns")
    with pytest.raises(InputError, match="only one"):
        predictor.predict(ROWS, task="films", abstain=True)


def test_a_bad_row_of_a_stream_ends_the_work_after_the_rows_before_it(
    predictor: Predictor,
) -> None:
    def stream() -> Iterator[Any]:
        yield ROWS[0]
        yield 7
        yield ROWS[1]

    answers = predictor.predict(stream())
    assert next(answers).index == 0
    with pytest.raises(InputError, match="row 1: expected a text"):
        next(answers)


@pytest.mark.parametrize("form", [list, iter])
def test_bad_rows_are_left_out_for_a_caller_who_wants_to_hear_of_them(
    predictor: Predictor, form: Callable[[Iterable[Any]], Any]
) -> None:
    heard: list[InputError] = []
    rows = [ROWS[0], None, {"text": ""}, ROWS[1], {"text": "sky", "choices": ["a", "b"]}]
    answers = predictor.predict(form(rows), on_bad=heard.append)
    assert [answer.index for answer in answers] == [0, 3]
    assert [str(error).split(":")[0] for error in heard] == ["row 1", "row 2", "row 4"]


def test_threads_that_share_a_predictor_answer_texts_as_one_after_the_other(
    predictor: Predictor,
) -> None:
    parts = [ROWS[start::4] * 3 for start in range(4)]

    def work(part: list[str]) -> list[list[Prediction]]:
        return [list(predictor.predict(part, batch_size=5)) for _ in range(15)]

    alone = [list(predictor.predict(part, batch_size=5)) for part in parts]
    with ThreadPoolExecutor(4) as threads:
        for expected, found in zip(alone, threads.map(work, parts, timeout=300), strict=True):
            assert all(one == expected for one in found)
