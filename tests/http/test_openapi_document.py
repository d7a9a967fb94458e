"""``/openapi.json``: valid, complete, and true of what the routes answer."""

from __future__ import annotations

from typing import Any

import pytest
from answering import Answering, lines, text_input

jsonschema = pytest.importorskip("jsonschema", reason="install expertbank[test]")
validating = pytest.importorskip("openapi_spec_validator", reason="install expertbank[test]")


@pytest.fixture(scope="module")
def document(live: Answering) -> dict[str, Any]:
    found: dict[str, Any] = live.get("/openapi.json").json()
    return found


def _check(document: dict[str, Any], name: str, instance: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(instance)


def _check_answer(document: dict[str, Any], path: str, line: object) -> None:
    """A line of an answer, by what the document says of the route."""
    (told,) = document["paths"][path]["post"]["responses"]["200"]["content"].values()
    schema = {**told["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(line)


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validating.validate(document)


def test_it_names_every_route_and_every_refusal(document: dict[str, Any]) -> None:
    assert {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{name}",
        "/v2/models/{name}/ready",
        "/v2/models/{name}/infer",
        "/v2/models/{name}/versions/{version}",
        "/v2/models/{name}/versions/{version}/ready",
        "/v2/models/{name}/versions/{version}/infer",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/completions",
        "/v1/chat/completions",
        "/classify",
        "/predict",
        "/admin/reload",
    } <= set(document["paths"])
    for path in ("/v2/models/{name}/infer", "/classify", "/predict"):
        answers = document["paths"][path]["post"]["responses"]
        assert {"400", "404", "408", "413", "415", "422", "429"} <= set(answers)
        assert {"500", "503", "504"} <= set(answers)
        for status, answer in answers.items():
            if status != "200":
                assert list(answer["content"]) == ["application/problem+json"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert "431" in operation["responses"]
            assert not path.endswith("/infer") or "403" in operation["responses"]
    message = document["components"]["schemas"]["ChatCompletion"]["properties"]["choices"]
    assert "refusal" in message["items"]["properties"]["message"]["properties"]


def test_what_routes_answer_is_what_it_says(document: dict[str, Any], live: Answering) -> None:
    texts = ["film bad", "goal red", "cell gene"]
    asked = {"inputs": [text_input(*texts)], "id": "a"}
    _check(document, "InferRequest", asked)
    for path, name in {
        "/v2": "ServerMetadata",
        "/v2/health/live": "Live",
        "/v2/health/ready": "Ready",
        "/v2/models/auto": "ModelMetadata",
        "/v2/models/ticket": "ModelMetadata",
        "/v2/models/mood/ready": "ModelReady",
        "/v1/models": "Models",
    }.items():
        _check(document, name, live.get(path).json())
    for model in ("auto", "mood", "marks", "ticket"):
        answered = live.post(f"/v2/models/{model}/infer", asked)
        assert answered.status_code == 200
        _check(document, "InferResponse", answered.json())
    _check(document, "Classified", live.post("/classify", {"input": texts}).json())
    _check(document, "Reloaded", live.post("/admin/reload").json())
    rows = [{"text": text} for text in texts]
    rows.append({"text": "is the sky", "choices": ["law party", "tax match"]})
    for line in lines(live.post("/predict", rows)):
        _check(document, "RowAnswer", line)
    answered, skipped = lines(live.post("/predict?skip_bad", [*rows[:1], {"text": ""}]))
    for one in (answered, skipped):
        _check_answer(document, "/predict", one)
    _check(document, "SkippedRow", skipped)
    for model in ("mood", "ticket"):
        asked = {"model": model, "prompt": texts}
        _check(document, "CompletionRequest", asked)
        _check(document, "Completion", live.post("/v1/completions", asked).json())
    _check(document, "Model", live.get("/v1/models/mood").json())
    for refused in (
        *(live.get("/nope"), live.post("/classify", {}), live.post("/v2")),
        *(live.get("/v1/models/nope"), live.post("/v1/completions", {})),
    ):
        _check(document, "Problem", refused.json())
