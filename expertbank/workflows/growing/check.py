"""A dry run of ``add``: what is in the data, and what of the bank would stand in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from expertbank.config import (
    DEFAULT_BACKBONE,
    DEFAULT_MAX_LENGTH,
    AdapterConfig,
    BankConfig,
    TrainConfig,
)
from expertbank.data import TaskCheck, check_task, length_counter, source_text
from expertbank.data.check import TOKENS_PER_SECOND
from expertbank.errors import ExistsError, InputError
from expertbank.records import ProgressCallback, no_progress
from expertbank.registry.registry import Registry
from expertbank.settings import number
from expertbank.workflows.growing.grouping import require_allowed
from expertbank.workflows.growing.prepare import require_settings
from expertbank.workflows.growing.request import AddRequest


def check_request(
    registry: Registry | None,
    request: AddRequest,
    *,
    tokens_per_second: float = TOKENS_PER_SECOND,
    progress: ProgressCallback = no_progress,
) -> TaskCheck:
    """Try out what ``add`` would be asked, without torch; nothing is written.

    Args:
        registry: of the bank, ``None`` where there is none yet.
        request: what would be added.
        tokens_per_second: assumed speed of training.
        progress: told as files are read.

    Returns:
        What was found; its warnings begin with what stands in the way of ``add``.

    Raises:
        BadRowsError: rows so bad that the others cannot be used either.
        DataError: a file is unusable.
        InputError: settings or a source that cannot be.
    """
    number(tokens_per_second, "tokens_per_second", "check", float, above=0)
    task, train = request.spec, request.train or TrainConfig()
    require_settings(task, request.adapter or AdapterConfig(), train, request.tune)
    wished = request.bank or BankConfig()
    record = None if registry is None else registry.backbone()
    reference = wished.backbone or (record.reference if record else DEFAULT_BACKBONE)
    length = record.feature_spec.max_length if record else DEFAULT_MAX_LENGTH
    remarks = [] if registry is None else list(_in_the_way(registry, request))
    if record is not None and wished.max_length not in {None, length}:
        remarks.append(
            f"the bank's maximum length is {length} and cannot change; lengths are counted for "
            f"{wished.max_length}"
        )
    found = check_task(
        task,
        None if request.data is None else source_text(request.data),
        length_counter(reference, record.revision_of(reference) if record else None),
        train=train,
        max_length=wished.max_length or length,
        tokens_per_second=tokens_per_second,
        progress=progress,
    )
    return replace(found, warnings=(*remarks, *found.warnings))


def _in_the_way(registry: Registry, request: AddRequest) -> Iterator[str]:
    version = registry.next_version(request.name)
    if version > 1 and not request.new_version:
        yield f"the bank has {request.name}@{version - 1}: add needs --new-version"
    try:
        require_allowed(registry, request.spec, request.group)
    except (ExistsError, InputError) as error:
        yield f"add would refuse: {error}"
