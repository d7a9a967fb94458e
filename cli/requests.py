"""From options, or from a YAML list of them, to what is asked of ``add``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from expertbank.config import AdapterConfig, TrainConfig, TuneConfig
from expertbank.errors import InputError
from expertbank.files.paths import given_path
from expertbank.kinds import DEFAULT_KIND, EXTERNAL_KIND, KINDS
from expertbank.plain import mapping, typed
from expertbank.settings import build, options_of, setting
from expertbank.workflows.growing.request import SETTINGS, AddRequest
from expertbank.writing import WritingConfig

from .options import OF_LABELS, DataOptions

if TYPE_CHECKING:
    from expertbank.workflows.growing.crowd import Crowd


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Which task an expert is added for."""

    task: str | None = setting(None, "Catalog name, or a new name together with --data.")
    spec: str | None = setting(None, "YAML file that describes the task, as the catalog does.")
    kind: str | None = setting(
        None, f"What rows and answers are: {', '.join(KINDS.names())}; default {DEFAULT_KIND}."
    )


@dataclass(frozen=True, slots=True)
class ElsewhereOptions:
    """Who answers a task that no expert of the bank does."""

    external: str | None = setting(
        None,
        "Name of an adapter elsewhere, such as an engine's, that answers the task: nothing is "
        "trained, and rows need no label.",
    )


_OF_TASK = TaskOptions, ElsewhereOptions, AddRequest, DataOptions, WritingConfig
PER_TASK = (*_OF_TASK, TrainConfig, AdapterConfig, TuneConfig)
"""Settings that belong to one task; a list's entries may give each option of theirs."""
_RAY = re.compile(r"ray(://[^\s/]+:\d+)?")


def request(given: Mapping[str, Any]) -> AddRequest:
    """What the options of ``add`` that were given ask for.

    Raises:
        InputError: a value that is not legal.
    """
    from expertbank.data import load_spec, task_spec
    from expertbank.data.spec import check_task_name

    if given.get("task") is not None:
        check_task_name(given["task"])
    wanted = build(TaskOptions, given)
    if given.get("tune_minutes") is not None and given.get("tune") is None:
        raise InputError("--tune-minutes bounds a search, and none is asked for; add --tune")
    if wanted.spec is None:
        assert wanted.task is not None, "a task or a spec was asked for"
        spec = task_spec(wanted.task)
    else:
        spec = load_spec(wanted.spec)
        spec = replace(spec, name=spec.name if wanted.task is None else wanted.task)
    spec = build(DataOptions, given).of(spec)
    if wanted.kind is not None:
        spec = replace(spec, kind=wanted.kind)
    if (adapter := build(ElsewhereOptions, given).external) is not None:
        _require_no_label(adapter, wanted.kind, given)
        spec = spec.answered_by(adapter)
    spec = replace(spec, writing=build(WritingConfig, given).over(spec.writing))
    if spec.writing != WritingConfig() and not KINDS.get(spec.kind).writes:
        raise InputError(
            f"{', '.join(spec.writing.given())}: how answers are written is for kinds that write "
            f"them, such as --kind generation; {spec.name} is {spec.kind}"
        )
    settings = {name: build(kind, given) for name, kind in SETTINGS.items()}
    return build(AddRequest, given, task=spec, **settings)


def _require_no_label(adapter: str, kind: str | None, given: Mapping[str, Any]) -> None:
    """Refuse what says how labels are read of a task that is answered elsewhere.

    Raises:
        InputError: another kind, or a column of labels.
    """
    odd = [key for key in OF_LABELS if given.get(key)]
    odd += ["kind"] if kind not in {None, EXTERNAL_KIND} else []
    if odd:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in odd)
        raise InputError(
            f"--external {adapter}: rows of a task that is answered elsewhere have no "
            f"label; leave out {flags}"
        )


def read_list(file: str, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a YAML list of tasks, each laid over the command line's options.

    Raises:
        InputError: not such a list; the message names file and entry.
    """
    import yaml

    try:
        content = yaml.safe_load(given_path(file, "the list").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, list) or not content:
        raise InputError(f"{file}: expected a list of tasks, such as: - task: boolq")
    kinds = {option.key: option.kind for cls in PER_TASK for option in options_of(cls)}
    entries = []
    for number, entry in enumerate(content, start=1):
        where = f"{file}: entry {number}"
        if isinstance(entry, str):
            entry = {"task": entry}
        if not isinstance(entry, dict) or not {"task", "spec"} & set(entry):
            raise InputError(f"{where}: needs a task or a spec")
        named = {str(key).replace("-", "_"): value for key, value in entry.items()}
        if len(named) < len(entry):
            twice = sorted(
                key for key in map(str, entry) if "-" in key and key.replace("-", "_") in entry
            )
            raise InputError(f"{where}: {' and '.join(twice)} stands twice, with - and with _")
        mapping(named, where, list(kinds))
        given = {key: typed(kinds[key], value, where, key) for key, value in named.items()}
        entries.append({**defaults, **given})
    return entries


def of_list(file: str, defaults: Mapping[str, Any]) -> list[AddRequest]:
    """What each entry of a list asks of ``add``.

    Raises:
        InputError: the message names file and entry.
    """
    found = []
    for number, entry in enumerate(read_list(file, defaults), start=1):
        try:
            found.append(request(entry))
        except InputError as error:
            if type(error) is not InputError:  # those of files and names say where they are
                raise
            raise InputError(f"{file}: entry {number}: {error}") from error
    return found


def crowd_of(on: str, threads: int | None, device: str | None) -> Crowd:
    """The workers that ``--on`` names.

    Raises:
        InputError: it names none, or Ray is not installed.
    """
    from expertbank.workflows.growing.on_processes import Processes
    from expertbank.workflows.growing.on_ray import Ray

    scheme, _, rest = on.partition(":")
    if scheme == "processes" and rest.isdecimal() and int(rest) > 0:
        return Processes(int(rest), threads, device)
    if _RAY.fullmatch(on):
        return Ray(None if on == "ray" else on, threads or 1, device)
    raise InputError(f"--on {on}: expected processes:N, ray, or ray://HEAD:PORT")
