"""What people build today: LitServe's batching over the same predictor.

``serving.py`` runs it: python others/litserve_server.py HOME PORT.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve as ls

from expertbank import Bank

MAX_BATCH = 32
BATCH_TIMEOUT = 0.005


class Api(ls.LitAPI):  # type: ignore[misc]
    """Batches of texts, routed and answered."""

    home = sys.argv[1] if len(sys.argv) > 1 else ""

    def setup(self, device: str) -> None:
        """Open the bank in the worker."""
        self.bank = Bank.open(self.home, read_only=True)
        self.predictor = self.bank.predictor()

    def decode_request(self, request: dict[str, str]) -> str:
        """The text of a request."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Texts are a batch as they are."""
        return list(inputs)

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """Answer a batch."""
        return [one.to_dict() for one in self.predictor.predict(texts)]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers are one a request as they are."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """The answer as JSON."""
        return output


if __name__ == "__main__":
    server = ls.LitServer(
        Api(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT),
        accelerator="cpu",
        workers_per_device=1,
        timeout=120,
    )
    server.run(
        port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False, log_level="warning"
    )
