"""Model and tokenizer from their files: a folder as transformers saves it, or one GGUF file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from safetensors import SafetensorError

from expertbank.backbones.gguf_header import Header, read_header
from expertbank.backbones.gguf_reader import each_file_read_once
from expertbank.backbones.hub import OFFLINE_WAYS, first_line
from expertbank.backbones.identity import CONFIG, read_config
from expertbank.backbones.weight_files import is_pooler
from expertbank.errors import (
    InputError,
    IntegrityError,
    NoBackboneError,
    SourceUnavailableError,
    UnsupportedModelError,
)

EXTRA = "pip install 'expertbank[gguf]'"


def read(path: Path, reference: str) -> tuple[Any, Any]:
    """The bare model and its fast tokenizer, which has a token to pad with.

    Args:
        path: a folder, or a GGUF file, whose weights are dequantised.
        reference: what the user named it by.

    Raises:
        InputError: the tokenizer cannot be used here, or package ``gguf`` is missing.
        NoBackboneError: a GGUF file that is cut short, or holds no language model.
        UnsupportedModelError: a GGUF file of an architecture that transformers does not read.
        SourceUnavailableError: a folder that transformers does not load.
        IntegrityError: files that are damaged or lack weights that the model needs.
    """
    if path.is_file():
        model, tokenizer, absent = _gguf(path, reference)
    else:
        model, tokenizer, absent = _folder(path, reference)
    absent = [name for name in absent if not is_pooler(name)]
    if absent:
        raise IntegrityError(
            f"backbone {reference!r} lacks {len(absent)} weights its configuration needs, "
            f"the first is {sorted(absent)[0]}; it would run on random numbers"
        )
    _require_tokenizer(tokenizer, reference, "the GGUF file" if path.is_file() else "")
    return model, tokenizer


def require_readable(files: Iterable[str], reference: str) -> None:
    """Refuse files that may not be read: transformers takes them for files that are not there.

    Raises:
        SourceUnavailableError: it names the first such file, and the system's reason.
    """
    for file in files:
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise SourceUnavailableError(
                f"backbone {reference!r}: cannot read {file}: {error.strerror}; check permissions"
            ) from error


def read_language_model(path: Path, reference: str, names: Collection[str]) -> dict[str, Any]:
    """Weights of the language model around a bare one, read from the same files.

    The whole model is loaded for it and let go again.

    Args:
        path: as for ``read``.
        reference: likewise.
        names: of the weights, as the language model has them; those that are not in the files are
            left out.

    Raises:
        SourceUnavailableError: the files cannot be loaded so.
    """
    from transformers import AutoModelForCausalLM

    named = {"gguf_file": path.name} if path.is_file() else {"use_safetensors": True}
    try:
        with _alone():
            model, loading = AutoModelForCausalLM.from_pretrained(
                path.parent if path.is_file() else path,
                dtype="auto",
                output_loading_info=True,
                trust_remote_code=False,
                local_files_only=True,
                **named,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise SourceUnavailableError(
            f"the language-model head of backbone {reference!r} could not be read: "
            f"{first_line(error)}"
        ) from error
    absent = set(loading["missing_keys"])
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name in names and name not in absent
    }


def _folder(folder: Path, reference: str) -> tuple[Any, Any, list[str]]:
    try:
        return _load(folder, {}, {"use_safetensors": True})
    except (OSError, ValueError) as error:
        raise SourceUnavailableError(
            f"backbone {reference!r} could not be loaded: {first_line(error).rstrip('.')}. "
            + OFFLINE_WAYS
        ) from error
    except (
        *(SafetensorError, AssertionError, ImportError),
        *(KeyError, RuntimeError, TypeError),
    ) as error:
        raise IntegrityError(
            f"the files of backbone {reference!r} are damaged or do not fit each other "
            f"({type(error).__name__}: {first_line(error)}); download them again"
        ) from error


def _gguf(file: Path, reference: str) -> tuple[Any, Any, list[str]]:
    header = _whole(file, reference)
    named = {"gguf_file": file.name}
    try:
        model, tokenizer, absent = _load(file.parent, named, named)
    except Exception as error:
        # transformers refuses what it does not read with whatever the place in the code raises.
        import transformers

        raise UnsupportedModelError(
            f"backbone {reference!r} is a GGUF file of architecture {header.architecture!r}, "
            f"which transformers {transformers.__version__} could not read "
            f"({type(error).__name__}: {first_line(error)}); give the folder of the model that it "
            "was made of"
        ) from error
    # The weights are plain numbers now, and nothing may take them for packed ones.
    del model.config.quantization_config
    return model, tokenizer, absent


def _whole(file: Path, reference: str) -> Header:
    """The header of a file that has all its bytes, a tokenizer, and a package to read it with."""
    try:
        header = read_header(file)
    except ValueError as error:
        raise NoBackboneError(
            f"backbone {reference!r} is no whole GGUF file: {error}; download it again"
        ) from error
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError as error:
        raise InputError(
            f"backbone {reference!r} is a GGUF file, and package gguf, which reads them, is not "
            f"installed: {EXTRA}"
        ) from error
    lacking = header.lacking({int(kind): size for kind, size in GGML_QUANT_SIZES.items()})
    if lacking:
        raise NoBackboneError(
            f"backbone {reference!r} is a GGUF file that is cut short: it has {header.size:,} "
            f"bytes, and its tensors need {lacking:,} more; download it again"
        )
    if not header.has_tokenizer:
        raise NoBackboneError(
            f"backbone {reference!r} is a GGUF file without a tokenizer (tokenizer.ggml.tokens), "
            "such as one of an adapter or of an encoder for images; give a whole language model's"
        )
    return header


def _load(
    folder: Path, of_tokenizer: dict[str, Any], of_model: dict[str, Any]
) -> tuple[Any, Any, list[str]]:
    """Model, tokenizer, and the names of the weights that were not in the files."""
    from transformers import AutoModelForTextEncoding, AutoTokenizer

    kind = _class_of(folder)
    with _alone():
        # Left unset, code that a repository brings would be asked about on stdin and run.
        tokenizer = AutoTokenizer.from_pretrained(
            folder, use_fast=True, trust_remote_code=False, local_files_only=True, **of_tokenizer
        )
        model, loading = kind.from_pretrained(
            folder,
            dtype="auto",
            output_loading_info=True,
            trust_remote_code=False,
            local_files_only=True,
            **of_model,
        )
    if kind is AutoModelForTextEncoding:
        model.config.is_encoder_decoder = False  # as most of these classes do, but not UMT5's
    return model, tokenizer, list(loading["missing_keys"])


def _class_of(folder: Path) -> Any:
    """What loads a bare model; of one that is an encoder and a decoder, such as T5, the encoder.

    That is so where transformers has a class for the encoder alone.
    """
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = read_config(folder).get("model_type") if (folder / CONFIG).is_file() else None
    if kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind] not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return AutoModel
    alone = MODEL_FOR_TEXT_ENCODING_MAPPING[CONFIG_MAPPING[kind]].__name__.endswith("EncoderModel")
    return AutoModelForTextEncoding if alone else AutoModel


def _require_tokenizer(tokenizer: Any, reference: str, where: str) -> None:
    """A fast tokenizer with words; it pads with its end token if it has no other.

    Raises:
        InputError: it is not fast, or can pad with nothing.
        IntegrityError: it knows no word.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"backbone {reference!r} has no fast tokenizer (tokenizer.json)")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # Without its files transformers makes up a tokenizer that knows no word.
        what = where or "its tokenizer.json"
        raise IntegrityError(
            f"backbone {reference!r} has no vocabulary: {what} is missing or empty"
        )
    if tokenizer.pad_token_id is None and tokenizer.eos_token is None:
        raise InputError(
            f"the tokenizer of backbone {reference!r} has neither a padding nor an end token"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


LOADING = RLock()
"""Held by the thread that has transformers make a model, which sets the process's default type."""


@contextmanager
def _alone() -> Iterator[None]:
    """Around what transformers loads: one thread at a time, and nothing of it is left behind.

    What is changed meanwhile is the process's: what transformers says, the class that reads GGUF
    files, and torch's generator, from which an absent pooler is filled.
    """
    with (
        LOADING,
        _quiet_transformers(),
        each_file_read_once(),
        torch.random.fork_rng(devices=[]),
    ):
        yield


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep loading bars and reports off the user's terminal; put the settings back after."""
    from transformers import modeling_gguf_pytorch_utils as dequantising
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    drawn = dequantising.tqdm  # its own bar, which no setting of transformers reaches
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    dequantising.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        dequantising.tqdm = drawn
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
