"""A task in a YAML file, with the same fields as an entry of the catalog: read and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from expertbank.data.spec import TaskSpec
from expertbank.errors import InputError
from expertbank.files.paths import given_path

_LARGEST = 1_000_000


def load_spec(path: str | Path) -> TaskSpec:
    """The task that a YAML file describes.

    Files and folders among its sources are meant from the file's own folder, so the task can be
    used from anywhere.

    Args:
        path: the file.

    Raises:
        InputError: the file is missing or not YAML, or a key is unknown or malformed; the
            message names the file and the key, for YAML errors the line.
    """
    path = given_path(path, "the task file")
    where = str(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{where}: too large for a task file; is it the data? use --data")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the task file {where}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not valid UTF-8; save the task file as UTF-8") from error
    try:
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{where}:{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{where}:1: not valid YAML: {error}") from error
    if value is None:
        raise InputError(f"{where}: the task file is empty; it needs at least name: …")
    try:
        spec = TaskSpec.from_dict(value, where)
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(where) else f"{where}: {message}") from error
    return spec.within(path.resolve().parent)


def written(spec: TaskSpec) -> dict[str, Any]:
    """A task as its file would say it: what was not given is left out.

    In a file, it is what ``load_spec`` gives the same task for.
    """
    whole = spec.to_dict()
    names = whole.pop("label_names")  # a label may be shown as nothing
    return _given(whole) | ({"label_names": names} if names else {})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without what is absent in it, however deep."""

    def inner(value: Any) -> Any:
        if isinstance(value, list):
            return [inner(one) for one in value]
        return _given(value) if isinstance(value, dict) else value

    found = {key: inner(value) for key, value in values.items()}
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}
