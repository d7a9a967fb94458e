"""Ask a running server, with nothing but Python's standard library.

Run it with: python examples/serve/client.py [--url http://127.0.0.1:8000] [--key KEY] TEXT...

It waits up to a minute for the server to be ready, asks all texts in one request, comes again when
the server says that it is full, and prints where each text went and what was answered.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from typing import Any

TRIES = 60


def call(url: str, document: Any = None, key: str | None = None) -> Any:
    """Send a document and read the answer's; GET without one.

    Raises:
        SystemExit: the server refuses; what it says is shown.
    """
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if document is None else json.dumps(document).encode()
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers), timeout=60
            ) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            again = error.headers.get("Retry-After")
            if again is None or attempt == TRIES - 1:
                # A problem document: one sentence says what is wrong.
                raise SystemExit(f"{error.code}: {json.load(error)['detail']}") from None
            time.sleep(float(again))
        except urllib.error.URLError as error:
            if attempt == TRIES - 1:
                raise SystemExit(f"{url}: {error.reason}") from None
            time.sleep(1)  # it does not listen yet
    raise AssertionError


def infer(url: str, texts: list[str], model: str, key: str | None) -> list[dict[str, Any]]:
    """One answer a text, by the Open Inference Protocol."""
    asked = {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}],
        "outputs": [{"name": name} for name in ("task", "expert", "label", "confidence")],
    }
    answer = call(f"{url}/v2/models/{model}/infer", asked, key)
    columns = {output["name"]: output["data"] for output in answer["outputs"]}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="auto", help="auto, a task or a group")
    parser.add_argument("--key", help="one of the server's API keys")
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    options = parser.parse_args(argv)
    call(f"{options.url}/v2/health/ready")
    for text, found in zip(
        options.texts, infer(options.url, options.texts, options.model, options.key), strict=True
    ):
        print(f"{found['task']}\t{found['label']}\t{found['confidence']:.3f}\t{text}")


if __name__ == "__main__":
    main()
