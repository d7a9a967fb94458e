"""What llama.cpp writes with LoRA adapters, one prompt at a time.

``engines.py`` starts it in llama.cpp's own environment, which knows nothing of expertbank.
Run: python llama_cpp_answers.py ASKED ANSWERS. The first is a JSON object: ``setups`` (name to
``base``, a GGUF file, and ``float32_cache``, whether keys and values are kept in float32 and not,
as by default, in float16), ``adapters`` (name to GGUF file), ``threads``, ``stop_ids`` and
``asked``: a list of objects with ``task``, ``prompt``, which is token ids, and ``max_tokens``. The
second gets for each setup the tokens written for each prompt: ``tokens`` by its task's adapter and
``bare`` without one, their ends included.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_cpp import GGML_TYPE_F32, Llama, __version__

Asked = dict[str, Any]


def opened(setup: dict[str, Any], threads: int, adapter: str | None) -> Llama:
    cache = {"type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32} if setup["float32_cache"] else {}
    return Llama(
        setup["base"],
        lora_path=adapter,
        n_ctx=256,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
        **cache,
    )


def written(model: Llama, one: Asked, stop_ids: Sequence[int]) -> list[int]:
    model.reset()
    found: list[int] = []
    for token in model.generate(one["prompt"], temp=0.0, repeat_penalty=1.0):
        found.append(token)
        if token in stop_ids or len(found) == one["max_tokens"]:
            break
    return found


def answers(told: dict[str, Any], setup: dict[str, Any]) -> dict[str, list[list[int]]]:
    asked, stop_ids, threads = told["asked"], told["stop_ids"], told["threads"]
    model = opened(setup, threads, None)
    bare = [written(model, one, stop_ids) for one in asked]
    model.close()
    tokens: list[list[int]] = [[] for _ in asked]
    for task, adapter in told["adapters"].items():
        model = opened(setup, threads, adapter)
        for place, one in enumerate(asked):
            if one["task"] == task:
                tokens[place] = written(model, one, stop_ids)
        model.close()
    return {"tokens": tokens, "bare": bare}


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    found = {name: answers(told, setup) for name, setup in told["setups"].items()}
    Path(sys.argv[2]).write_text(json.dumps({"version": __version__, "setups": found}))


if __name__ == "__main__":
    main()
