"""What vLLM writes with LoRA adapters in one batch.

``engines.py`` starts it in vLLM's own environment, which knows nothing of expertbank.
Run: python vllm_answers.py ASKED ANSWERS. The first is a JSON object: ``backbone``, ``adapters``
(name to folder), ``rank``, ``stop_ids`` and ``asked``: a list of objects with ``task``,
``prompt``, which is token ids, and ``max_tokens``. The second gets the tokens written for each:
``tokens`` by its task's adapter, ``bare`` without one, and ``mixed`` again without one, in the same
batches as with them. Standard output is vLLM's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams, TokensPrompt, __version__
from vllm.lora.request import LoRARequest


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    model = LLM(
        told["backbone"],
        dtype="float32",
        enforce_eager=True,
        enable_lora=True,
        max_loras=max(1, len(told["adapters"])),
        max_lora_rank=told["rank"],
        max_model_len=256,
        max_num_seqs=16,
        seed=0,
    )
    loras = {
        name: LoRARequest(name, number, folder)
        for number, (name, folder) in enumerate(told["adapters"].items(), 1)
    }

    def written(asked: list[dict[str, Any]], names: list[str | None]) -> list[list[int]]:
        outputs = model.generate(
            [TokensPrompt(prompt_token_ids=one["prompt"]) for one in asked],
            [
                SamplingParams(
                    temperature=0.0, max_tokens=one["max_tokens"], stop_token_ids=told["stop_ids"]
                )
                for one in asked
            ],
            lora_request=[None if name is None else loras[name] for name in names],
            use_tqdm=False,
        )
        return [list(output.outputs[0].token_ids) for output in outputs]

    asked = told["asked"]
    tasks = [one["task"] for one in asked]
    none = [None] * len(asked)
    turns = [one for one in asked for _ in range(2)]
    names = [name for task in tasks for name in (task, None)]
    answer = {
        "version": __version__,
        "tokens": written(asked, tasks),
        "bare": written(asked, none),
        "mixed": written(turns, names)[1::2],
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
