"""What is no backbone: which folder or file it is instead, and what to give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from expertbank.backbones.gguf_header import is_gguf
from expertbank.backbones.identity import CONFIG
from expertbank.backbones.tokenizer_files import FILE as TOKENIZER
from expertbank.backbones.tokenizer_files import VOCABULARIES
from expertbank.backbones.weight_files import INDEX, WHOLE
from expertbank.errors import NoBackboneError

ADAPTER = "adapter_config.json"
NEEDED = (
    f"a backbone is a folder with {CONFIG}, {TOKENIZER} and {WHOLE}, a GGUF file, or a Hub name"
)
SAVE = "AutoModel.from_pretrained(…).save_pretrained(DIR) of transformers"

_OTHER_WEIGHTS = {
    "*.bin": "PyTorch's pickles, which are never opened here",
    "*.pt": "PyTorch's pickles, which are never opened here",
    "*.pth": "PyTorch's pickles, which are never opened here",
    "*.h5": "TensorFlow's",
    "*.msgpack": "Flax's",
    "*.onnx": "ONNX graphs",
    "onnx/*.onnx": "ONNX graphs",
}
"""Weights in another form, by pattern of their files' names."""


def require_backbone_files(folder: Path, reference: str) -> None:
    """Refuse a folder that holds something else than a backbone, before any of it is loaded.

    Args:
        folder: a folder, or a GGUF file, which is read to be known; where ``reference`` led.
        reference: what the user named.

    Raises:
        NoBackboneError: it says what the folder is, and what to give instead.
    """
    if folder.is_file():
        return
    looks = (_adapter, _incomplete) if _has_weights(folder) else _LOOKS
    for look in looks:
        found = look(folder)
        if found is not None:
            raise NoBackboneError(f"backbone {reference!r} {found}")


def require_no_part(reference: str) -> None:
    """Refuse a reference that names a file which is no model by itself.

    Raises:
        NoBackboneError: it says what the file is, and what to give instead.
    """
    path = Path(reference).expanduser()
    if not reference.strip():
        raise NoBackboneError(f"the backbone's name is empty; {NEEDED}")
    if not path.is_file():
        return
    if is_gguf(path):
        return
    if path.suffix == ".safetensors" or path.name in {CONFIG, TOKENIZER, INDEX}:
        what = f"is one file of a model; give the folder that it is in: {path.resolve().parent}"
    else:
        what = f"is a file, not a folder; {NEEDED}"
    raise NoBackboneError(f"backbone {reference!r} {what}")


def _adapter(folder: Path) -> str | None:
    if not (folder / ADAPTER).is_file():
        return None
    base = _json(folder / ADAPTER).get("base_model_name_or_path")
    named = f"the model that it was trained on, {base!r}," if base else "the model it was made for"
    return (
        f"is an adapter (LoRA or the like, {ADAPTER}), not a whole model; give {named} as the "
        "backbone, or merge both first: PeftModel.from_pretrained(base, adapter)"
        ".merge_and_unload().save_pretrained(DIR), the tokenizer beside it, and name DIR"
    )


def _bundle(folder: Path) -> str | None:
    content = _json(folder / "manifest.json")
    told = content.get("backbone")
    if not isinstance(told, dict) or "experts" not in content:
        return None
    inside = told.get("folder")
    give = str(folder / str(inside)) if inside else str(told.get("reference") or "the one it names")
    return (
        f"is what expertbank export wrote, not a model; its experts' backbone is {give!r}. To "
        "answer with it: expertbank predict --bundle; to take its experts over: expertbank import"
    )


def _bank(folder: Path) -> str | None:
    if not (folder / "registry.db").is_file():
        return None
    return "is the folder of a bank, not a model; to work with that bank: expertbank --home FOLDER"


def _sentence_transformer(folder: Path) -> str | None:
    """Early releases of sentence-transformers put the model into a folder of its own."""
    if (folder / CONFIG).is_file():
        return None
    inside = [path for path in _folders(folder) if (path / CONFIG).is_file() and _has_weights(path)]
    if not inside:
        return None
    names = " or ".join(repr(str(path)) for path in inside[:3])
    if (folder / "modules.json").is_file():
        return f"is a sentence-transformers model with its transformer in a folder inside: {names}"
    return f"holds no {CONFIG}, but folders inside do; give one of them: {names}"


def _incomplete(folder: Path) -> str | None:
    """No configuration, no weights that are read here, or neither."""
    config = (folder / CONFIG).is_file()
    if "transformers_weights" in _json(folder / CONFIG):
        return f"takes its weights from elsewhere than {WHOLE}; save the whole model with {SAVE}"
    if _has_weights(folder):
        return None if config else f"holds no {CONFIG}; {NEEDED}"
    several = sorted(path.name for path in folder.glob("*.gguf"))
    if several:
        return f"holds GGUF files; give one of them: {', '.join(map(repr, several[:5]))}"
    for pattern, kind in _OTHER_WEIGHTS.items():
        if any(folder.glob(pattern)):
            return (
                f"has its weights only as {kind}; save them as {WHOLE} first, with {SAVE}, the "
                "tokenizer beside it, and name DIR"
            )
    if config:
        return f"holds no weights ({WHOLE}); save them there with {SAVE}"
    if any((folder / name).is_file() for name in (TOKENIZER, *VOCABULARIES)):
        return f"holds a tokenizer and no model; {NEEDED}"
    if not any(folder.iterdir()):
        return f"is an empty folder; {NEEDED}"
    return f"holds no {CONFIG}; {NEEDED}"


_LOOKS: tuple[Callable[[Path], str | None], ...] = (
    _adapter,
    _bundle,
    _bank,
    _sentence_transformer,
    _incomplete,
)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _has_weights(folder: Path) -> bool:
    return (folder / WHOLE).is_file() or (folder / INDEX).is_file()


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, or another file of that name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
