"""From options, or from a YAML list of them, to what ``Bank.add`` takes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from expertbank.config import AdapterConfig, TrainConfig, TuneConfig
from expertbank.errors import InputError
from expertbank.files.paths import given_path
from expertbank.kinds import DEFAULT_KIND, EXTERNAL_KIND, KINDS
from expertbank.plain import mapping, typed
from expertbank.settings import build, options_of, setting
from expertbank.writing import WritingConfig

from .ending import described
from .options import DataOptions

if TYPE_CHECKING:
    from expertbank.bank import Bank
    from expertbank.config import BankConfig
    from expertbank.records import ProgressCallback
    from expertbank.workflows.growing.add import AddResult
    from expertbank.workflows.growing.crowd import Crowd


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Which task an expert is added for, and how it stands to others."""

    task: str | None = setting(None, "Catalog name, or a new name together with --data.")
    data: str | None = setting(
        None,
        "Folder or file (.csv .tsv .jsonl .json .parquet, or .gz of it), - for standard input, "
        "hf:org/name[:config][@revision], or pkg:package/path.",
    )
    spec: str | None = setting(None, "YAML file that describes the task, as the catalog does.")
    kind: str | None = setting(
        None, f"What rows and answers are: {', '.join(KINDS.names())}; default {DEFAULT_KIND}."
    )
    external: str | None = setting(
        None,
        "Name of an adapter elsewhere, such as an engine's, that answers the task: nothing is "
        "trained, and rows need no label.",
    )
    group: str | None = setting(
        None,
        "Tasks of one group answer the same texts: all its experts answer. Of a task that is "
        "there `expertbank group` changes it.",
    )
    new_version: bool = setting(False, "Allow a further version of a known task.")
    resume: bool = setting(False, "Go on with an interrupted run of this command.")


PER_TASK = (TaskOptions, DataOptions, WritingConfig, TrainConfig, AdapterConfig, TuneConfig)
"""Settings that belong to one task; a list's entries may give each option of theirs."""
_RAY = re.compile(r"ray(://[^\s/]+:\d+)?")


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``Bank.add`` from the options of ``PER_TASK`` that were given.

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
    if wanted.external is not None:
        _require_no_label(wanted, given)
        spec = spec.answered_by(wanted.external)
    spec = replace(spec, writing=build(WritingConfig, given).over(spec.writing))
    if spec.writing != WritingConfig() and not KINDS.get(spec.kind).writes:
        raise InputError(
            f"{', '.join(spec.writing.given())}: how answers are written is for kinds that write "
            f"them, such as --kind generation; {spec.name} is {spec.kind}"
        )
    return {
        "task": spec,
        "data": wanted.data,
        "train": build(TrainConfig, given),
        "adapter": build(AdapterConfig, given),
        "tune": build(TuneConfig, given),
        "group": wanted.group,
        "new_version": wanted.new_version,
        "resume": wanted.resume,
    }


def _require_no_label(wanted: TaskOptions, given: Mapping[str, Any]) -> None:
    """Refuse what says how labels are read of a task that is answered elsewhere.

    Raises:
        InputError: another kind, or a column of labels.
    """
    odd = [key for key in ("label_column", "label_separator") if given.get(key)]
    odd += ["kind"] if wanted.kind not in {None, EXTERNAL_KIND} else []
    if odd:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in odd)
        raise InputError(
            f"--external {wanted.external}: rows of a task that is answered elsewhere have no "
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


def arguments_of_list(file: str, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arguments of ``Bank.add`` for each entry of a list.

    Raises:
        InputError: the message names file and entry.
    """
    found = []
    for number, entry in enumerate(read_list(file, defaults), start=1):
        try:
            found.append(arguments(entry))
        except InputError as error:
            if type(error) is not InputError:  # those of files and names say where they are
                raise
            raise InputError(f"{file}: entry {number}: {error}") from error
    return found


def add_each(
    add: Callable[[dict[str, Any]], AddResult], wanted: Sequence[dict[str, Any]]
) -> tuple[list[AddResult], list[dict[str, Any]]]:
    """Add one after the other; a failure is noted and the next one tried."""
    added: list[AddResult] = []
    failed: list[dict[str, Any]] = []
    for wish in wanted:
        try:
            added.append(add(wish))
        except Exception as error:  # noqa: BLE001 (a defect is one entry's failure too)
            code, message = described(error)
            failed.append({"task": wish["task"].name, "code": code, "message": message})
    return added, failed


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


def add_at_once(
    bank: Bank,
    wanted: Sequence[dict[str, Any]],
    crowd: Crowd,
    config: BankConfig,
    rehash: bool,
    progress: ProgressCallback,
) -> tuple[list[AddResult], list[dict[str, Any]]]:
    """Add all at once; a failure is noted, and the others are done."""
    from expertbank.workflows.growing.crowd import Wish
    from expertbank.workflows.growing.prepare import AddRequest

    wishes = []
    for given in wanted:
        own = {name: value for name, value in given.items() if name != "resume"}
        request = AddRequest(**own, bank=config, rehash=rehash)
        wishes.append(Wish(request, given["resume"]))
    done: list[AddResult] = []
    failed: list[dict[str, Any]] = []
    with redirect_stdout(sys.stderr):  # Ray prints what became of its workers
        found = bank.add_many(wishes, crowd, progress=progress)
    for wish, result in zip(wishes, found, strict=True):
        if isinstance(result, Exception):
            code, message = described(result)
            failed.append({"task": wish.task, "code": code, "message": message})
        else:
            done.append(result)
    return done, failed
