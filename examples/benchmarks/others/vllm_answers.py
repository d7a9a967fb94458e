"""What vLLM writes with LoRA adapters in one batch.

``engines.py`` starts it in vLLM's own environment, which knows nothing of expertbank.
Run: python vllm_answers.py ASKED ANSWERS. The first is a JSON object: ``backbone``, ``adapters``
(name to folder), ``rank``, ``stop_ids`` and ``asked``: a list of objects with ``task``, null for
the bare model, ``prompt``, which is token ids, and ``max_tokens``. The second gets the tokens
written for each; standard output is vLLM's.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

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
    begun = time.monotonic()
    outputs = model.generate(
        [TokensPrompt(prompt_token_ids=one["prompt"]) for one in told["asked"]],
        [
            SamplingParams(
                temperature=0.0, max_tokens=one["max_tokens"], stop_token_ids=told["stop_ids"]
            )
            for one in told["asked"]
        ],
        lora_request=[loras.get(one["task"]) for one in told["asked"]],
        use_tqdm=False,
    )
    seconds = time.monotonic() - begun
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    answer = {"version": __version__, "seconds": seconds, "tokens": tokens}
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
