"""A tokenizer as its files describe it, in a form of our own that no release changes.

Releases of ``tokenizers`` and ``transformers`` write the same tokenizer differently: merges as
text or as pairs, fields left out or filled in with their default, special tokens as text or as
objects, and the padding and truncation of the last call, which are no part of it. Here each has
one form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expertbank.config import canonical_json, sha256_text
from expertbank.errors import MALFORMED, IntegrityError

FILE, CONFIG, SPECIAL = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
VOCABULARIES = (
    "added_tokens.json",
    "bpe.codes",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)
"""What describes a tokenizer where there is no ``tokenizer.json``, which is made from these."""

NAMES = (FILE, CONFIG, SPECIAL, *VOCABULARIES)
"""Every file that can belong to a tokenizer."""

_STATE = ("padding", "truncation", "version")
_ROLES = ("bos", "cls", "eos", "mask", "pad", "sep", "unk")
_SETTINGS = ("add_bos_token", "add_eos_token", "add_prefix_space", "model_input_names")
_NORMALIZER_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
"""Settings of BERT's tokenizers that go before the same fields of their normalizer."""

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "BPE": {
        "byte_fallback": False,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "ignore_merges": False,
    },
    "ByteLevel": {"use_regex": True},
    "Metaspace": {"split": True},
    "Unigram": {"byte_fallback": False},
}
"""Fields by component that files of older releases leave out, and what they mean then."""

_TOKEN_DEFAULTS = {"lstrip": False, "rstrip": False, "single_word": False, "special": False}


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over the canonical form of the tokenizer in ``folder``.

    Raises:
        IntegrityError: a file that is not JSON, or not a tokenizer's.
    """
    return sha256_text(canonical_json(canonical_tokenizer(folder)))


def canonical_tokenizer(folder: Path) -> dict[str, Any]:
    """The tokenizer, its special tokens by role, and the settings that change its tokens."""
    settings = _read(folder / CONFIG)
    try:
        if not (folder / FILE).is_file():
            files = [name for name in VOCABULARIES if (folder / name).is_file()]
            found: dict[str, Any] = {"files": {name: _sha256(folder / name) for name in files}}
        else:
            found = canonical_form(_read(folder / FILE))
            _add_tokens(found, settings)
        found["roles"] = _roles(settings, _read(folder / SPECIAL))
        found["settings"] = _settings(settings, found)
    except MALFORMED as error:
        raise IntegrityError(f"{folder / FILE}: not a tokenizer's file ({error!r})") from error
    return found


def canonical_form(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``tokenizer.json`` in the one form that all releases' files have."""
    found: dict[str, Any] = _component(
        {name: value for name, value in content.items() if name not in _STATE}
    )
    if isinstance(found.get("model"), dict) and "merges" in found["model"]:
        found["model"]["merges"] = [
            pair.split(" ") if isinstance(pair, str) else list(pair)
            for pair in found["model"]["merges"]
        ]
    tokens = [_token(token) for token in found.get("added_tokens", ())]
    found["added_tokens"] = sorted(tokens, key=lambda token: token["id"])
    return found


def _component(value: Any) -> Any:
    """A part of a tokenizer without nulls and defaults; its vocabulary as it is."""
    if isinstance(value, list):
        return [_component(item) for item in value] if _holds_parts(value) else value
    if not isinstance(value, dict):
        return value
    fields = {
        name: item if name == "vocab" else _component(item)
        for name, item in value.items()
        if item is not None
    }
    kind = fields.get("type")
    if kind == "Metaspace":
        _new_metaspace(fields)
    usual = _DEFAULTS.get(kind, {}) if isinstance(kind, str) else {}
    return {name: item for name, item in fields.items() if usual.get(name, _NOTHING) != item}


_NOTHING = object()


def _holds_parts(value: list[Any]) -> bool:
    return any(isinstance(item, dict) for item in value)


def _new_metaspace(fields: dict[str, Any]) -> None:
    """``prepend_scheme`` says since tokenizers 0.15 what two fields said before."""
    fields.pop("str_rep", None)
    prepended = fields.pop("add_prefix_space", True)
    fields.setdefault("prepend_scheme", "always" if prepended else "never")


def _token(token: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in token.items() if _TOKEN_DEFAULTS.get(name) is not item}


def _add_tokens(found: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Put in the tokens that only ``tokenizer_config.json`` adds."""
    known = {token["id"] for token in found["added_tokens"]}
    listed = settings.get("added_tokens_decoder", {})
    more = {int(number): token for number, token in listed.items()}
    found["added_tokens"] += [
        _token({"id": number, **more[number]}) for number in sorted(more) if number not in known
    ]


def _roles(settings: Mapping[str, Any], special: Mapping[str, Any]) -> dict[str, str]:
    """Role to the text of its special token."""
    found = {}
    for role in _ROLES:
        token = settings.get(f"{role}_token") or special.get(f"{role}_token")
        if token is not None:
            found[role] = str(token["content"] if isinstance(token, dict) else token)
    return found


def _settings(settings: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ``tokenizer_config.json`` that say other than the tokenizer does itself."""
    kept = {name: settings[name] for name in _SETTINGS if settings.get(name) is not None}
    byte_level = [part for part in _parts(found) if part.get("type") == "ByteLevel"]
    if byte_level and all(
        part.get("add_prefix_space") == kept.get("add_prefix_space") for part in byte_level
    ):
        kept.pop("add_prefix_space", None)
    bert = [part for part in _parts(found) if part.get("type") == "BertNormalizer"]
    for name, field in _NORMALIZER_SETTINGS.items():
        value = settings.get(name)
        if value is not None and any(part.get(field) != value for part in bert):
            kept[name] = value
    return kept


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every component, those inside a sequence too."""
    if isinstance(value, dict):
        yield value
        for name, item in value.items():
            if name != "vocab":
                yield from _parts(item)
    elif isinstance(value, list) and _holds_parts(value):
        for item in value:
            yield from _parts(item)


def _read(path: Path) -> Any:
    """A JSON object, empty where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, *MALFORMED) as error:
        raise IntegrityError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise IntegrityError(f"{path}: not a JSON object")
    return content


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
