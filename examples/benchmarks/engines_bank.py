"""The bank that ``engines.py`` and ``engine_router.py`` ask engines about: SmolLM2, three tasks.

The backbone's GGUF file is unpacked to float32 as a folder of the language model, which every
engine loads, so all compute with the same weights. Answers are words: the topic of a news text, the
subject of an exam question, and the words of a sentence that answer a stumbling question about it.
Texts are shortened until a prompt is read whole, as an engine reads it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from expertbank import Bank, Row, TaskSpec, TrainConfig, task_spec
from expertbank.data import load_task
from expertbank.writing import WritingConfig

MAX_LENGTH = 96
WORDS = 40
"""Most words of a prompt."""
ROWS, EVAL_ROWS, ASKED = 96, 16, 34
"""Rows a task to train on, to measure on, and to ask engines about."""
TEMPLATES = {
    "news_topic": "\nTopic:",
    "exam_topic": "\nSubject:",
    "spoken_answer": "\nAnswer:",
}


def backbone_folder(gguf: Path, work: Path) -> Path:
    """The language model of a GGUF file as a folder of float32 weights, made once."""
    folder = work / "backbone"
    if not (folder / "model.safetensors").is_file():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        AutoTokenizer.from_pretrained(**place).save_pretrained(folder)
        read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
        config = copy.deepcopy(read.config)
        # Left in, it would tell whoever loads the folder that its weights are still packed.
        del config.quantization_config
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(folder)
    return folder


def float32_file(gguf: Path, work: Path) -> Path:
    """The same GGUF file with its tensors unpacked to float32, made once.

    llama.cpp computes with it as others do with ``backbone_folder``: of packed tensors it rounds
    the states that it multiplies them with too.
    """
    from gguf import GGUFReader, GGUFWriter, LlamaFileType
    from gguf.quants import dequantize

    file = work / "float32.gguf"
    if not file.is_file():
        read = GGUFReader(gguf)
        values = {name: field for name, field in read.fields.items() if name[:5] != "GGUF."}
        writer = GGUFWriter(file.with_suffix(".part"), values["general.architecture"].contents())
        for name, field in values.items():
            if name not in ("general.architecture", "general.file_type"):
                inner = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(name, field.contents(), field.types[0], inner)
        writer.add_file_type(LlamaFileType.ALL_F32)
        for tensor in read.tensors:
            writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        file.with_suffix(".part").rename(file)
    return file


def _cut(text: str) -> str:
    return " ".join(text.split()[:WORDS])


def _labelled(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    return ((_cut(row.text), " " + str(row.label).replace("_", " ")) for row in rows)


def _answered(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """The sentence of a passage that holds the answer, and the question about it."""
    for row in rows:
        answer = str(row.label).strip(" .,")
        sentences = re.split(r"(?<=[.?!]) +", row.text)
        found = [one for one in sentences if answer in one]
        prompt = f"{found[0]}\n{row.text_pair}" if found else ""
        if answer and found and len(prompt.split()) <= WORDS + 15:
            yield prompt, f" {answer}"


SOURCES: dict[str, tuple[str, Callable[[Iterable[Row]], Iterator[tuple[str, str]]]]] = {
    "news_topic": ("bbc_news", _labelled),
    "exam_topic": ("exam_subject", _labelled),
    "spoken_answer": ("disfl_qa", _answered),
}


def write_rows(work: Path, seed: int) -> None:
    """Three files a task: training, validation, and prompts that engines are asked."""
    for task, (source, of) in SOURCES.items():
        folder = work / "rows" / task
        folder.mkdir(parents=True, exist_ok=True)
        data = load_task(task_spec(source), limit=800, eval_limit=400, seed=seed)
        train, held = list(of(data.train))[:ROWS], list(of(data.validation))
        parts = {
            "train": train,
            "validation": held[:EVAL_ROWS],
            "asked": held[EVAL_ROWS : EVAL_ROWS + ASKED],
        }
        for name, rows in parts.items():
            lines = (json.dumps({"prompt": text, "completion": answer}) for text, answer in rows)
            place = folder if name != "asked" else folder.parent
            place.joinpath(f"{task}.jsonl" if name == "asked" else f"{name}.jsonl").write_text(
                "\n".join(lines) + "\n"
            )


def prompts(work: Path) -> list[tuple[str, str]]:
    """``(task, prompt)`` of a hundred prompts that no expert has seen, the tasks in turn."""
    read = {
        task: [json.loads(line)["prompt"] for line in (work / "rows" / f"{task}.jsonl").open()]
        for task in SOURCES
    }
    turns = [(task, texts[turn]) for turn in range(ASKED) for task, texts in read.items()]
    return turns[:100]


def spec(task: str) -> TaskSpec:
    """A task whose answers are written after its template."""
    writing = WritingConfig(response_template=TEMPLATES[task], max_tokens=12)
    return replace(TaskSpec(task, kind="generation"), writing=writing)


def make_bank(gguf: Path, work: Path, seed: int) -> None:
    """Train what is missing of the bank in ``work``."""
    folder = backbone_folder(gguf, work)
    write_rows(work, seed)
    with Bank.open(work / "bank", create=True) as bank:
        bank.init(backbone=str(folder), max_length=MAX_LENGTH, dtype="float32")
        present = {one.task for one in bank.experts()}
        for task in SOURCES:
            if task in present:
                continue
            train = TrainConfig(epochs=2, batch_size=8, eval_limit=EVAL_ROWS, seed=seed)
            added = bank.add(spec(task), data=work / "rows" / task, train=train)
            print(f"{task}: exact match {added.metrics['exact_match']:.3f}", flush=True)
        if len(present) < len(SOURCES):
            bank.retrain_router()
