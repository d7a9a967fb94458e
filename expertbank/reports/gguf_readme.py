"""The README of an adapter for llama.cpp: what it is, what it takes, and how to answer with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expertbank.reports.adapters_readme import backbone_named, pooled_how
from expertbank.reports.escaping import code


def gguf_readme(entry: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Markdown for one expert's folder; its Python lines run as they stand there."""
    file, length = content["loaded_as"]["gguf"], content["feature_spec"]["max_length"]
    answering = _WRITES if entry["writing"] is not None else _READS
    return _ADAPTER.format(
        id=entry["id"],
        digest=entry["digest"],
        rank=entry["rank"],
        backbone=backbone_named(content["backbone"]),
        where=_FILE.format(file=code(file)) if file else _FOLDER,
        answering=answering.format(max_length=length, pooled=pooled_how(entry)),
    )


_FILE = "That is the GGUF file {file}, which is not part of this export."

_FOLDER = """That is no GGUF file: make one of it with llama.cpp's
`convert_hf_to_gguf.py`, in float32 (`--outtype f32`) where answers should be the bank's."""

_ADAPTER = """# {id}

`adapter.gguf` is a LoRA adapter for llama.cpp of rank {rank}, equal to the update of a frozen
expert (`{digest}`), in float32. Scale 1 adds it as it is.

It only works on the backbone it was trained on, {backbone}.
llama.cpp checks the architecture and the shapes, not the weights.
{where}
A bank computes with the unpacked weights; llama.cpp also rounds what it multiplies packed ones
with, so that close calls may go another way.

## With llama.cpp

{answering}"""

_WRITES = """`writing.json` is what the caller sends: the prompt, cut at {max_length} tokens, with
`response_template` behind it, its `max_tokens` and `stop`, and temperature 0. In Python, with
the backbone's file in this folder as `backbone.gguf` and package `llama-cpp-python`:

```python
import json

from llama_cpp import Llama

model = Llama("backbone.gguf", lora_path="adapter.gguf", n_ctx=0, verbose=False)
with open("writing.json", encoding="utf-8") as file:
    about = json.load(file)


def answer(text):
    made = model(
        text + about["response_template"],
        max_tokens=about["max_tokens"],
        stop=about["stop"],
        temperature=0.0,
    )
    return made["choices"][0]["text"]


print(answer("your text"))
```

The expert was trained on such prompts and knows no chat template.
"""

_READS = """The expert was trained to answer with its head, not to write: what llama.cpp generates
with it is changed by it, and means nothing by itself. No program of llama.cpp's loads the head
(`head.safetensors`). It reads the last hidden states, {pooled}, of texts that are cut at
{max_length} tokens: ask for the states as they are (in package `llama-cpp-python`
`Llama("backbone.gguf", lora_path="adapter.gguf", embedding=True, pooling_type=0)` and its
`embed(text, normalize=False)`), and apply the head to them as the README of
`export --format peft` does.
"""
