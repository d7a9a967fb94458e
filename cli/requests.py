"""From options, or from a YAML list of them, to what ``Bank.add`` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expertbank.errors import ExpertBankError, InputError

if TYPE_CHECKING:
    from expertbank.bank import Bank
    from expertbank.workflows.add import AddResult

_COLUMNS = (
    *("text_column", "pair_column", "choices_column", "label_column"),
    "label_separator",
)
_TRAIN = (
    *("limit", "eval_limit", "epochs", "patience", "balance", "lr", "batch_size", "seed"),
    *("accumulate", "checkpoint_layers"),
)
_ADAPTER = ("tt_rank", "alpha", "pooling")
_REST = ("task", "data", "spec", "kind", "group", "new_version", "resume")
OPTIONS = (*_REST, *_COLUMNS, *_TRAIN, *_ADAPTER, "target", "cache_memory")
"""Options that belong to one task; a list's entries may set each."""
_FLAGS = ("balance", "checkpoint_layers", "new_version", "resume")
_NUMBERS = ("lr", "alpha")
_LISTS = {
    "choices_column": "a column",
    "label_column": "a column",
    "target": "the name of a module",
}
_WHOLE = (
    *("limit", "eval_limit", "epochs", "patience", "batch_size", "seed", "tt_rank"),
    *("accumulate", "cache_memory"),
)
_MEBIBYTE = 2**20


def build(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``Bank.add`` from the options that were given.

    The others keep their defaults in one place, ``expertbank.config``.

    Raises:
        InputError: a value that is not legal.
    """
    from expertbank.config import AdapterConfig, TrainConfig
    from expertbank.tasks import load_spec, task_spec

    columns = {name: options[name] for name in _COLUMNS if name in options}
    if "spec" in options:
        spec = load_spec(options["spec"])
        if "task" in options:
            spec = replace(spec, name=options["task"])
        spec = spec.with_columns(
            text=columns.get("text_column"),
            text_pair=columns.get("pair_column"),
            choices=columns.get("choices_column") or (),
            label=columns.get("label_column"),
            separator=columns.get("label_separator"),
        )
    else:
        spec = task_spec(options["task"], **columns)
    if "kind" in options:
        spec = replace(spec, kind=options["kind"])
    train = {name: options[name] for name in _TRAIN if name in options}
    if "cache_memory" in options:
        train["cache_bytes"] = options["cache_memory"] * _MEBIBYTE
    return {
        "task": spec,
        "data": options.get("data"),
        "train": TrainConfig(**train),
        "adapter": AdapterConfig(
            **{name: options[name] for name in _ADAPTER if name in options},
            modules=tuple(options.get("target", ())),
        ),
        "group": options.get("group"),
        "new_version": bool(options.get("new_version")),
        "resume": bool(options.get("resume")),
    }


def read_list(file: str, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a YAML list of tasks, each laid over the command line's options.

    Raises:
        InputError: not such a list; the message names file and entry.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a YAML file: {error}") from error
    if not isinstance(content, list) or not content:
        raise InputError(f"{file}: expected a list of tasks, such as: - task: boolq")
    entries = []
    for number, entry in enumerate(content, start=1):
        where = f"{file}: entry {number}"
        if isinstance(entry, str):
            entry = {"task": entry}
        if not isinstance(entry, dict) or not {"task", "spec"} & set(entry):
            raise InputError(f"{where}: needs a task or a spec")
        named = {str(key).replace("-", "_"): value for key, value in entry.items()}
        for key in named:
            if key not in OPTIONS:
                near = get_close_matches(key, OPTIONS, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise InputError(f"{where}: unknown key {key!r}{hint}")
        given = {key: _typed(key, value, where) for key, value in named.items()}
        entries.append({**defaults, **given})
    return entries


def _typed(key: str, value: Any, where: str) -> Any:
    """A list entry's value as the command line would have given it."""
    if key in _FLAGS:
        kind, fits = "true or false", isinstance(value, bool)
    elif key in _WHOLE:
        kind, fits = "a whole number", type(value) is int
    elif key in _NUMBERS:
        kind, fits = "a number", isinstance(value, int | float | str) and type(value) is not bool
        try:
            value = float(value) if fits else value  # YAML takes 5e-3 for text
        except ValueError:
            fits = False
    elif key in _LISTS:
        value = [value] if isinstance(value, str) else value
        kind = f"{_LISTS[key]}, or a list of them"
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
    else:
        kind, fits = "text (quote it)", isinstance(value, str)
    if not fits:
        raise InputError(f"{where}: {key} must be {kind}, got {value!r}")
    return value


def add_each(
    bank: Bank, wanted: Sequence[dict[str, Any]], shared: Mapping[str, Any]
) -> tuple[list[AddResult], list[dict[str, Any]]]:
    """Add one after the other; a failure is noted and the next one tried."""
    added: list[AddResult] = []
    failed: list[dict[str, Any]] = []
    for arguments in wanted:
        try:
            added.append(bank.add(**arguments, **shared))
        except ExpertBankError as error:
            name = arguments["task"].name
            failed.append({"task": name, "code": error.exit_code, "message": str(error)})
    return added, failed
