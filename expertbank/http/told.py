"""What an answer says of itself: the document of ``expertbank predict --json``, and the digests."""

from __future__ import annotations

from typing import Any

from expertbank.serving.live import ServingState
from expertbank.workflows.answering.prediction import Prediction


def expert_digest(answer: Prediction, state: ServingState) -> str | None:
    """Digest of the file of the expert that answered; ``None`` if the state does not hold it."""
    task, _, version = answer.expert.rpartition("@")
    found = state.experts.get((task, int(version)))
    return None if found is None else found.digest


def document_of(answer: Prediction, state: ServingState) -> dict[str, Any]:
    """One row's answer, and the digests of the expert and the router that it came from."""
    document = answer.to_dict()
    document["expert_digest"] = expert_digest(answer, state)
    if answer.answers:
        document["answers"] = [
            one.to_dict() | {"expert_digest": expert_digest(one, state)} for one in answer.answers
        ]
    document["router"] = state.router_version
    document["router_digest"] = state.router_digest
    return document
