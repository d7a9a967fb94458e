"""What an answer says of itself: the document of ``expertbank predict --json``, and the digests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from expertbank.serving.live import ServingState
from expertbank.workflows.answering.prediction import Prediction


def document_of(answer: Prediction, state: ServingState) -> dict[str, Any]:
    """One row's answer, and the digests of the expert and the router that it came from."""
    document = _one(answer)
    if answer.answers:
        document["answers"] = [_one(one) for one in answer.answers]
    document["router"] = state.router_version
    document["router_digest"] = state.router_digest
    return document


def parts_of(answer: Prediction, state: ServingState, names: Iterable[str]) -> dict[str, Any]:
    """What stands in the document under these names; one that is not there is left out."""
    document = document_of(answer, state)
    return {name: document[name] for name in names if name in document}


def label_text(answer: Prediction) -> str:
    """The answer in one text: a class, a choice's text, a number, a JSON array of labels."""
    if answer.labels is not None:
        return json.dumps(list(answer.labels), ensure_ascii=False)
    return "" if answer.label is None else str(answer.label)


def _one(answer: Prediction) -> dict[str, Any]:
    return answer.to_dict() | {"expert_digest": answer.expert_digest}
