"""Which backbone it is: a digest of its files that outlasts releases of the libraries.

Three parts go in: the tensors (``weight_files``), the tokenizer (``tokenizer_files``) and the
configuration as ``config.json`` states it. Nothing is asked of transformers for the digest, and
one rule holds for every type of model, so neither a new release nor a new family changes it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expertbank.backbones import tokenizer_files, weight_files
from expertbank.backbones.file_states import Seen, States, look, states_of
from expertbank.config import canonical_json, sha256_text
from expertbank.errors import MALFORMED, IntegrityError
from expertbank.references import is_path, split

CONFIG = "config.json"

IDLE_FIELDS = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "label2id",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "tie_word_embeddings",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_cache",
    }
)
"""Fields that change nothing of what a bare model computes. Frozen: digests were taken over what
is left, so a name added here would make another backbone of every model that has it."""

IDLE_PARTS = ("dropout", "pdrop", "layerdrop", "initializer")
"""The same, of all names that hold one of these: they matter in training alone."""

USUAL = {
    "add_cross_attention": False,
    "is_decoder": False,
    "position_embedding_type": "absolute",
}
"""What these mean in every model when they are left out, as some releases do. Frozen too."""

NEARBY = "./backbone"
"""Where a backbone without a Hub name is looked for: beside the file that asks for it."""

_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHORT_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a backbone the one it is.

    Attributes:
        tensors: SHA-256 over the weights.
        tokenizer: SHA-256 over the tokenizer's canonical form.
        config: the fields of ``config.json`` that can matter.
        seen: the files that it was worked out from, as they were then; no part of what it is.
    """

    tensors: str
    tokenizer: str
    config: Mapping[str, Any]
    seen: Seen | None = field(default=None, compare=False, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 over all three, hexadecimal."""
        return sha256_text(canonical_json([self.tensors, self.tokenizer, dict(self.config)]))

    def answers_to(self, digest: str, config: Mapping[str, Any]) -> bool:
        """Whether this is the backbone that was recorded as ``digest``.

        It is, too, if weights and tokenizer are the same and the installed transformers makes
        the same of both configurations: files that were saved again state other defaults.

        Args:
            digest: the digest recorded.
            config: the configuration recorded with it.
        """
        if self.digest == digest:
            return True
        other = Identity(self.tensors, self.tokenizer, config)
        return other.digest == digest and _read_alike(self.config, config)

    def to_dict(self) -> dict[str, Any]:
        """The three parts by name, as the digest cache keeps them."""
        return {"tensors": self.tensors, "tokenizer": self.tokenizer, "config": dict(self.config)}


def identity_of(path: Path) -> Identity:
    """Read and hash a backbone's files.

    Of a GGUF file, which holds weights, tokenizer and configuration, its bytes are hashed as they
    are: what comes of unpacking them is a library's.

    Args:
        path: a folder, or a GGUF file.

    Raises:
        IntegrityError: files that are not what their names say, or that changed meanwhile.
    """
    seen = look(backbone_files(path))
    if path.is_file():
        whole = _sha256(path)
        found = Identity(whole, whole, {"format": "gguf"}, seen)
    else:
        tensors, floats = weight_files.tensors_digest(path)
        config = significant(read_config(path), floats)
        found = Identity(tensors, tokenizer_files.tokenizer_digest(path), config, seen)
    if fingerprint(path) != seen.files:
        raise IntegrityError(f"the files of the backbone in {path} changed while they were read")
    return found


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` as it stands.

    Raises:
        IntegrityError: not a JSON object.
    """
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, *MALFORMED) as error:
        raise IntegrityError(
            f"{folder / CONFIG}: not a backbone's configuration ({error})"
        ) from error
    if not isinstance(content, dict):
        raise IntegrityError(
            f"{folder / CONFIG}: not a backbone's configuration, which is a JSON object"
        )
    return content


def significant(config: Mapping[str, Any], floats: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields of a configuration that can change what the model computes.

    Args:
        config: the content of ``config.json``.
        floats: types of the stored floating-point tensors, as safetensors names them. A
            ``dtype`` that is not theirs counts, since weights are rounded to it when loaded.
    """
    kept = {
        name: value
        for name, value in config.items()
        if value is not None
        and name not in IDLE_FIELDS
        and not any(part in name for part in IDLE_PARTS)
        and USUAL.get(name) != value
    }
    dtype = config.get("dtype") or config.get("torch_dtype")
    if dtype is not None and floats - {_SHORT_TYPES.get(str(dtype).rpartition(".")[2])}:
        kept["dtype"] = str(dtype)
    return kept


def _read_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the installed transformers makes the same configuration of both."""
    if one.get("dtype") != other.get("dtype"):
        return False
    try:
        return _effective(one) == _effective(other)
    except Exception:  # noqa: BLE001 - whatever a configuration is refused with, it is another
        return False


def _effective(fields: Mapping[str, Any]) -> dict[str, Any]:
    from transformers import AutoConfig

    config = AutoConfig.for_model(**fields)
    return significant(json.loads(config.to_json_string(use_diff=False)))


def public_name(reference: str, path: Path) -> str:
    """What others may know a backbone by: a Hub name, or ``NEARBY``; never a path of this machine.

    Args:
        reference: what it was named by here.
        path: its files, whose configuration may say which of the Hub's models they were.
    """
    if not is_path(reference):
        return split(reference)[0]
    if path.is_file():
        return NEARBY
    told = str(read_config(path).get("_name_or_path") or "")
    known = _ON_HUB.fullmatch(told) is not None and not Path(told).exists()
    return told if known else NEARBY


def backbone_files(path: Path) -> tuple[Path, ...]:
    """Every file of a folder that belongs to the backbone, the weights among them; or the one."""
    if path.is_file():
        return (path,)
    weights = weight_files.weight_files(path)
    index = () if (path / weight_files.WHOLE) in weights else (weight_files.INDEX,)
    others = (CONFIG, *index, *tokenizer_files.NAMES)
    return (*weights, *(path / name for name in others if (path / name).is_file()))


def fingerprint(path: Path) -> States:
    """What changes when a file of the backbone does, without reading any."""
    return states_of(backbone_files(path))
