"""``POST /predict``: JSON lines in, JSON lines out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from answering import QUIET, Answering, answering, check_problem, lines, problem

from expertbank import Bank

NDJSON = {"Content-Type": "application/x-ndjson"}
TEXTS = ("film bad is the sky", "goal red of a river", "film good and money")


def _body(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _texts(*texts: str) -> bytes:
    return _body(*({"text": text} for text in texts))


def test_lines_are_the_documents_of_predict_with_digests(live: Answering) -> None:
    response = live.post("/predict", _texts(*TEXTS), headers=NDJSON)
    assert response.headers["content-type"].startswith("application/x-ndjson")
    found = lines(response)
    router = live.bank.registry.router()
    for document, prediction in zip(found, live.bank.predict(list(TEXTS)), strict=True):
        wanted = prediction.to_dict()
        assert set(wanted) <= set(document)
        for key in ("index", "task", "expert", "label", "unknown", "abstained"):
            assert document[key] == wanted[key]
        assert document["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
        assert document["router"] == router.version
        assert document["router_digest"] == router.digest
        assert document["expert_digest"] == live.bank.registry.expert(prediction.expert).digest


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"text": "film bad"}', "application/json"),
        (b'{\n  "text":\n "film bad"\n}\n', "application/json; charset=utf-8"),
        (b'[{"text": "film bad"}]', "application/json"),
        (b'\n\n{"text": "film bad"}\r\n\n', "application/x-ndjson"),
        (b'{"text": "film bad"}', "application/jsonl"),
    ],
)
def test_an_object_an_array_and_lines_are_all_rows(live: Answering, body: bytes, kind: str) -> None:
    (document,) = lines(live.post("/predict", body, headers={"Content-Type": kind}))
    assert document["label"] == live.bank.predict(["film bad"])[0].label


def test_the_query_says_who_answers(live: Answering) -> None:
    named = lines(live.post("/predict?task=mood", _texts(*TEXTS), headers=NDJSON))
    assert {one["task"] for one in named} == {"mood"}
    abstained = lines(live.post("/predict?abstain=true", _texts(*TEXTS), headers=NDJSON))
    assert [one["abstained"] for one in abstained] == [one["unknown"] for one in abstained]
    assert any(one["unknown"] for one in abstained)
    fallback = lines(live.post("/predict?fallback=mood", _texts(*TEXTS), headers=NDJSON))
    assert all(one["task"] == "mood" for one in fallback if one["unknown"])


def test_more_rows_than_a_request_may_bring_come_in_slices_and_in_order(
    served_home: Path,
) -> None:
    config = replace(QUIET, max_rows=4, queue_rows=8, max_batch_rows=4)
    with answering(served_home, config) as live:
        texts = [f"film {'good' if n % 3 else 'bad'} sky {'blue ' * (n % 5)}" for n in range(37)]
        found = lines(live.post("/predict", _texts(*texts), headers=NDJSON))
        assert [one["index"] for one in found] == list(range(37))
        expected = live.bank.predict(texts)
        assert [one["label"] for one in found] == [one.label for one in expected]


def test_a_deadline_that_is_named_is_the_whole_requests(served_home: Path) -> None:
    config = replace(QUIET, max_rows=1, queue_rows=4, max_batch_rows=1)
    with answering(served_home, config) as live:
        body = _texts(*[f"film bad {'sky ' * 100}{n}" for n in range(2000)])
        headers = {**NDJSON, "X-Deadline-Ms": "500"}
        found = lines(live.post("/predict", body, headers=headers))
        assert 1 < len(found) < 2000
        check_problem(found[-1], 504)


def test_slices_are_all_answered_by_what_the_first_was(served_home: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(served_home, tmp_path / "bank"))
    config = replace(QUIET, max_rows=1, queue_rows=4, max_batch_rows=1, deadline_ms=30_000)
    body = _texts(*[f"film bad {'sky ' * 200}{n}" for n in range(300)])
    with (
        answering(home, config) as live,
        httpx.stream("POST", live.url + "/predict", content=body, headers=NDJSON) as stream,
    ):
        arriving = stream.iter_lines()
        first = json.loads(next(arriving))
        with Bank.open(home, device="cpu") as bank:
            router = bank.retrain_router("ridge").router
        assert live.post("/admin/reload").json()["reloaded"] is True
        under_new = lines(live.post("/predict", _texts(TEXTS[0]), headers=NDJSON))
        rest = [json.loads(line) for line in arriving]
        assert under_new[0]["router_digest"] == router.digest
        assert [one["index"] for one in [first, *rest]] == list(range(300))
        assert {one["router_digest"] for one in [first, *rest]} == {first["router_digest"]}
        assert first["router_digest"] != router.digest


def test_answers_arrive_while_later_rows_are_answered(served_home: Path) -> None:
    config = replace(QUIET, max_rows=1, queue_rows=4, max_batch_rows=1)
    with (
        answering(served_home, config) as live,
        httpx.stream(
            "POST", live.url + "/predict", content=_texts(*TEXTS * 20), headers=NDJSON, timeout=60
        ) as response,
    ):
        parts = [part for part in response.iter_raw() if part]
        assert len(parts) > 1
        assert sum(part.count(b"\n") for part in parts) == 60


def test_bad_rows_are_skipped_and_told_of_in_their_place(live: Answering) -> None:
    body = (
        _texts("film bad")
        + b"no json\n"
        + _body({"text": ""}, {"text": "film bad", "choices": ["one"]})
        + b'{"text": "\xff"}\n'
        + _texts("goal red")
    )
    found = lines(live.post("/predict?skip_bad=1", body, headers=NDJSON))
    assert [one["index"] for one in found] == [0, 1, 2, 3, 4, 5]
    assert ["skipped" in one for one in found] == [False, True, True, True, True, False]


def test_a_row_that_only_the_named_task_cannot_read_is_skipped_alone(live: Answering) -> None:
    row = {"text": "is the sky", "choices": ["law party", "tax match"]}
    body = _body({"text": "film bad"}, row, {"text": "film good"})
    found = lines(live.post("/predict?task=mood&skip_bad=yes", body, headers=NDJSON))
    assert ["skipped" in one for one in found] == [False, True, False]
    problem(live.post("/predict?task=mood", body, headers=NDJSON), 422)


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("", b"", 400),
        ("", b"no json\n", 400),
        ("", b"[1]", 400),
        ("", b'{"text": "a"}\n{"text": \n', 400),
        ("", b'{"text": "\xff"}\n', 400),
        ("", b'{"txt": "a"}', 422),
        ("", b'{"text": ""}', 422),
        ("", b'{"text": "a", "text": "b"}', 422),
        ("", b'{"text": ["a"]}', 422),
        ("", b'{"text": "a\\u0000b"}', 422),
        ("?task=nope", b'{"text": "a"}', 404),
        ("?task=mood&abstain=1", b'{"text": "a"}', 400),
        ("?abstain=perhaps", b'{"text": "a"}', 400),
        ("?colour=red", b'{"text": "a"}', 400),
        ("?task=mood&task=topic", b'{"text": "a"}', 400),
    ],
)
def test_what_cannot_be_answered_is_refused_before_anything_is(
    live: Answering, query: str, body: bytes, status: int
) -> None:
    problem(live.post(f"/predict{query}", body, headers=NDJSON), status)
    live.still_answers()


def test_lines_that_are_sent_as_one_document_are_told_what_to_send(live: Answering) -> None:
    body = b'{"text": "film bad"}\n{"text": "goal red"}'
    answer = live.post("/predict", body, headers={"Content-Type": "application/json"})
    detail = problem(answer, 400)["detail"]
    assert "as one array, or as lines with Content-Type: application/x-ndjson" in detail


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_types_that_a_browser_sends_unasked_are_refused(live: Answering, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    problem(live.post("/predict", b'{"text": "a"}', headers=headers), 415)


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("body", ['[{"text": "film good"}]', '{"text": "film good"}'])
def test_a_byte_order_mark_hides_nothing(live: Answering, kind: str, body: str) -> None:
    answer = httpx.post(
        f"{live.url}/predict", content=body.encode("utf-8-sig"), headers={"Content-Type": kind}
    )
    assert answer.status_code == 200, answer.text
    assert len(lines(answer)) == 1
