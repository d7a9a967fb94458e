"""The README of an adapter for PEFT: what it is, who can load it, and how to answer with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from expertbank.kinds import KINDS
from expertbank.reports.adapters_readme import backbone_named, is_nearby, pooled_how
from expertbank.reports.escaping import code

SERVER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM's ``--max-lora-rank`` takes (``MaxLoRARanks`` in its ``config/lora.py``)."""

_POOLED = {
    "mean": "pooled = states.mean(0)",
    "first": "pooled = states[0]",
    "last": "pooled = states[-1]",
    "pair": """of_text = inputs.sequence_ids()
    start = of_text.index(1) if 1 in of_text else 0  # where the second text begins
    means = states.mean(0), states[: start or None].mean(0), states[start:].mean(0)
    mean, u, v = (one / one.pow(2).mean().sqrt() for one in means)
    pooled = torch.cat([mean, (u - v).abs(), u * v])""",
}
"""Lines that make what the head reads of ``states [tokens, hidden]``."""


def peft_readme(entry: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Markdown for one expert's folder; its Python lines run as they stand there."""
    backbone, spec = content["backbone"], content["feature_spec"]
    loaded, file = content["loaded_as"], ""
    if loaded["gguf"]:
        file = f", gguf_file={json.dumps(loaded['gguf'], ensure_ascii=False)}"
    revision = f', revision="{backbone["revision"]}"' if backbone["revision"] else ""
    names = {
        "reference": f"{json.dumps(backbone['reference'], ensure_ascii=False)}{revision}{file}",
        "dtype": spec["dtype"],
        "max_length": spec["max_length"],
    }
    return _ADAPTER.format(
        id=entry["id"],
        digest=entry["digest"],
        rank=entry["rank"],
        backbone=backbone_named(backbone),
        where=_where(backbone, loaded["gguf"]),
        answering=_answering(entry, loaded, names),
        engines=_engines(entry, loaded),
    )


def _answering(entry: Mapping[str, Any], loaded: Mapping[str, Any], names: dict[str, Any]) -> str:
    """How to answer in Python."""
    if entry["writing"] is not None:
        return _WRITES.format(**names)
    load = _LOAD.format(
        **names,
        auto="AutoModelForCausalLM" if loaded["causal"] else "AutoModel",
        inside=f".get_base_model().{loaded['inner']}" if loaded["causal"] else "",
        pooled=_POOLED[entry["pooling"]],
        read="".join(f"    {line}\n" for line in _read(entry)),
    )
    return _READS.format(
        pooled=pooled_how(entry),
        max_length=names["max_length"],
        code=load + KINDS.get(entry["kind"]).snippet,
    )


def _engines(entry: Mapping[str, Any], loaded: Mapping[str, Any]) -> str:
    """What a serving engine does with it."""
    rank = _RANK.format(server_rank=_server_rank(entry["rank"]))
    model = loaded["class"]
    if entry["writing"] is not None:
        return _ENGINE_WRITES + rank + _NAMED.format(model=model)
    if loaded["causal"]:
        return _ENGINE_HEAD + rank + _NAMED.format(model=model) + _NOT_TO_WRITE
    return _ENGINE_HEAD + rank + _ENCODER.format(model=model)


def _read(entry: Mapping[str, Any]) -> list[str]:
    """What becomes of the pooled state before the head reads it."""
    scaled = entry["scaled"] and entry["pooling"] != "pair"
    lines = ["pooled = pooled / pooled.pow(2).mean().sqrt()"] if scaled else []
    if entry["dense"] is not None:
        layer = 'head["dense.weight"] @ pooled + head["dense.bias"]'
        named = (
            "torch.nn.functional.gelu" if entry["dense"] == "gelu" else f"torch.{entry['dense']}"
        )
        lines.append(f"pooled = {named}({layer})")
    return lines


def _where(backbone: Mapping[str, Any], file: str | None) -> str:
    """Where to put a backbone that has no name others know."""
    if file:
        return _NEARBY_FILE.format(file=code(file))
    return _NEARBY if is_nearby(backbone) else ""


def _server_rank(rank: int) -> str:
    """What vLLM must be told to accept adapters of this rank."""
    enough = [known for known in SERVER_RANKS if known >= rank]
    if not enough:
        return f"its largest is {SERVER_RANKS[-1]}, so it refuses this adapter"
    if enough[0] <= 16:
        return "its default of 16 is enough"
    return f"start it with `--max-lora-rank {enough[0]}`"


_LOAD = """import json

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({reference})
backbone = {auto}.from_pretrained({reference}, dtype=torch.{dtype})
model = PeftModel.from_pretrained(backbone, ".").eval()
with safe_open("head.safetensors", "pt") as file:
    head = {{name: file.get_tensor(name) for name in file.keys()}}
    about = json.loads(file.metadata()["expertbank"])


@torch.no_grad()
def outputs(text, text_pair=None):
    inputs = tokenizer(
        text, text_pair, truncation="longest_first", max_length={max_length}, return_tensors="pt"
    )
    if not getattr(backbone.config, "type_vocab_size", None):
        inputs.pop("token_type_ids", None)  # some models would take them for words
    states = model{inside}(**inputs).last_hidden_state[0].float()
    {pooled}
{read}    return head["weight"] @ pooled + head["bias"]

"""

_NEARBY = """
That backbone has no name on the Hub and is not part of this export: put its folder, or a link to
it, into this folder as `backbone`."""

_NEARBY_FILE = """
That backbone is the GGUF file {file}, which is not part of this export: put it into a folder
`backbone` in this one. transformers needs package `gguf` to read it."""

_ADAPTER = """# {id}

A LoRA adapter of rank {rank}, equal to the update of a frozen expert (`{digest}`).
`lora_A` is Aᵀ, `lora_B` is alpha·Bᵀ and `lora_alpha` is the rank, so the adapter
is added with scale 1.

It only works on the backbone it was trained on, {backbone}.
PEFT does not check that: other weights of the same shapes load without complaint.
`expertbank --home NEW init --backbone FOLDER` prints the digest of a folder's.{where}

## With PEFT

{answering}
## In a serving engine

{engines}"""

_READS = """Run it in this folder. The head reads the last hidden states of the adapted backbone,
{pooled}; texts are cut at {max_length} tokens.

```python
{code}```
"""

_WRITES = """Run it in this folder. The language model writes the answer after the prompt, which is
cut at {max_length} tokens, and the response template of `writing.json`.

```python
import json

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({reference})
backbone = AutoModelForCausalLM.from_pretrained({reference}, dtype=torch.{dtype})
model = PeftModel.from_pretrained(backbone, ".").eval()
with open("writing.json", encoding="utf-8") as file:
    about = json.load(file)


@torch.no_grad()
def answer(text, text_pair=None):
    prompt = tokenizer(text, text_pair, truncation="longest_first", max_length={max_length})
    template = tokenizer(about["response_template"], add_special_tokens=False)
    ids = torch.tensor([prompt["input_ids"] + template["input_ids"]])
    written = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=about["max_tokens"],
        eos_token_id=about["end_token_id"],
        pad_token_id=about["end_token_id"],
    )
    found = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    for stop in about["stop"]:
        found = found.partition(stop)[0]
    return found


print(answer("your text"))
```
"""

_RANK = """- vLLM: the adapter's rank must not exceed the server's `--max-lora-rank`; {server_rank}.
"""

_ENGINE_HEAD = """- The head (`head.safetensors`) is loaded by no engine, so it is a file of its
  own: in `modules_to_save` vLLM takes only `score` and `classifier`, and only of
  cross-encoders. Ask the engine for hidden states and apply the head to them.
"""

_ENGINE_WRITES = """- `writing.json` is what the caller sends, as no engine reads it: the prompt
  with `response_template` behind it, `temperature` 0, its `max_tokens` and `stop`. The expert was
  trained on such prompts and knows no chat template.
"""

_NAMED = """- The tensors are named as in the language model (`{model}`), which is what
  engines that generate look for. The export was put into that class and gave the bank's hidden
  states before it was published. Under the bare model (`AutoModel`) PEFT finds none of these names.
"""

_NOT_TO_WRITE = """- The expert was trained to answer with its head, not to write: what an engine
  generates with it is changed by it, and means nothing by itself.
"""

_ENCODER = """- The tensors are named as in the bare model (`{model}`), into which they
  were put, and tried, before this was published. Engines that only generate have no such names.
"""
