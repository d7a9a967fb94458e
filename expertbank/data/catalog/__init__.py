"""The catalog: one YAML file for each task that expertbank knows by name."""

from __future__ import annotations

from functools import cache
from importlib import resources

import yaml

from expertbank.data.spec import TaskSpec, check_task_name
from expertbank.errors import InputError, NotFoundError


def catalog_names() -> tuple[str, ...]:
    """Names of the catalog's tasks, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name[:-5] for file in files if file.name.endswith(".yaml")))


@cache
def catalog_spec(
    name: str, hint: str = "for a task of your own give its rows with --data"
) -> TaskSpec:
    """The catalog's spec of the task ``name``.

    Raises:
        InputError: ``name`` is not a legal task name, or the entry is malformed.
        NotFoundError: the catalog has no such task.
    """
    check_task_name(name)
    known = catalog_names()
    if name not in known:
        raise NotFoundError.of("catalog task", name, known, hint)
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    spec = TaskSpec.from_dict(yaml.safe_load(text), where=f"catalog/{name}.yaml")
    if spec.name != name:
        raise InputError(f"catalog/{name}.yaml names the task {spec.name!r}")
    return spec
