"""The first step of ``add``: read, check, split and encode, until only training is left to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from expertbank.adapters import ADAPTERS
from expertbank.clock import now
from expertbank.config import AdapterConfig, BankConfig, FeatureSpec, TrainConfig, TuneConfig
from expertbank.data import (
    TaskData,
    TaskSpec,
    encode_rows,
    hold_out_for_selection,
    load_task,
    source_text,
    take,
)
from expertbank.data.remarks import SameTokens, cut_remark
from expertbank.data.spec import check_task_name
from expertbank.errors import ExistsError, InputError, NotFoundError
from expertbank.files.paths import storable
from expertbank.kinds import KINDS, Kind
from expertbank.plain import plain
from expertbank.records import (
    EncodedRow,
    ProgressCallback,
    ProgressEvent,
    Row,
    TaskRecord,
    no_progress,
)
from expertbank.workflows.growing.effects import UNTRAINED, require_effect
from expertbank.workflows.growing.grouping import require_allowed
from expertbank.workflows.growing.initialise import Fits, initialise
from expertbank.workflows.growing.jobs import AddJob, Entry, EvaluatedRow, bank_identity
from expertbank.workflows.growing.request import AddRequest
from expertbank.workflows.growing.writing import (
    remarks_on_answers,
    require_writing,
    writing_of,
)
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.backbones.backbone import Backbone

FEATURE_ROWS = 2000
"""Most training rows of a task whose features are kept for the router."""
STATISTICS_ROWS = 20
"""Fewest training rows of a task of which statistics alone are kept."""


def prepare(
    workspace: Workspace,
    request: AddRequest,
    progress: ProgressCallback = no_progress,
    fits: Fits | None = None,
) -> AddJob:
    """Read and check everything that an expert is made of.

    Rows are read and checked before the backbone is loaded. Writes nothing, but that a bank without
    a backbone gets one, as ``init`` would.

    Args:
        workspace: the open bank.
        request: what to add.
        progress: told as rows are read.
        fits: asked of the bank's backbone and spec, before it is made if it is new; by default
            whether the backbone has what is to be adapted.

    Raises:
        ExistsError: the task has an expert and no new version was asked for.
        InputError: bad data or options.
        IntegrityError: another backbone than the bank's.
    """
    from expertbank.adapters.targets import targets_of
    from expertbank.training.job import settled
    from expertbank.workflows.growing.statistics import grid_of

    task = request.spec
    name, config = task.name, request.train or TrainConfig()
    wish = request.adapter or AdapterConfig()
    elsewhere = KINDS.get(task.kind).elsewhere
    require_settings(task, wish, config, request.tune)
    if request.group is not None:
        check_task_name(request.group, "group")
    if not workspace.exists:
        require_allowed(None, task, request.group)
    else:
        _require_new(workspace, name, new_version=request.new_version)
        require_allowed(workspace.registry, task, request.group)
        workspace.probe_writable()
    data = load_task(
        task,
        None if request.data is None else source_text(request.data),
        limit=config.limit,
        eval_limit=config.eval_limit,
        seed=config.seed,
        progress=progress,
    )
    if workspace.exists:  # now that its columns are known
        require_allowed(workspace.registry, data.spec, request.group)
    kind = KINDS.get(data.spec.kind)
    share = config.selection_share_of(len(data.train))
    fit, selection = hold_out_for_selection(data.train, share, config.seed, kind.classes)

    def has_targets(loaded: Backbone, spec: FeatureSpec) -> None:
        if not elsewhere:
            targets_of(wish, spec, loaded.model, loaded.family)

    fits = fits or has_targets
    backbone = initialise(workspace, request.bank or BankConfig(), fits)
    spec = backbone.feature_spec
    _require_enough_rows(spec, data)
    # Asked again: reading the data took time, and another process may have been faster.
    version = _require_new(workspace, name, new_version=request.new_version)
    kept = _kept(fit, selection, config.seed)
    rows = (*data.train, *data.validation)
    loaded = workspace.backbone
    if request.rehash:
        workspace.held.recheck()
    workspace.held.require_agreement(loaded)
    if kind.writes:
        require_writing(loaded, spec, name)
    fits(loaded, spec)
    adapter, train = UNTRAINED, config
    if not elsewhere:
        adapter, train = settled(wish, config, spec, loaded, len(data.train))
    found = encode_rows(
        rows, loaded.tokenizer, kind, data.labels, spec.max_length, loaded.vocabulary
    )
    encoded = dict(zip(rows, found, strict=True))
    remarks = [*_remarks(encoded, kind, spec.max_length)]
    if kind.writes:
        remarks += remarks_on_answers(loaded, data, encoded)
    data = replace(data, warnings=(*data.warnings, *remarks))
    return AddJob(
        entry=Entry(
            bank=bank_identity(backbone),
            task=TaskRecord(
                name,
                kind.name,
                data.labels,
                data.spec.to_dict(),
                now(),
                # A known task stays where it is, also if that changes while this one is trained.
                group=request.group if version == 1 else None,
            ),
            version=version,
            adapter=adapter,
            train=train,
            data=_source_facts(data),
            warnings=data.warnings,
        ),
        backbone=replace(backbone, reference=workspace.held.reference or backbone.reference),
        train=tuple(encoded[row] for row in fit),
        selection=tuple(encoded[row] for row in selection),
        kept=tuple((encoded[row], row.shape) for row in kept),
        validation=tuple(
            EvaluatedRow(encoded[row], row.shape, row.digest, row.group) for row in data.validation
        ),
        grid=grid_of(workspace) if spec.keep == "stats" else None,
        writing=writing_of(loaded, data, encoded) if kind.writes else None,
    )


def warn(job: AddJob, progress: ProgressCallback) -> None:
    """Tell what is odd about a job's data before its training is paid for."""
    if job.entry.warnings:
        name = job.entry.task.name
        told = tuple(f"{name}: {one}" for one in job.entry.warnings)
        progress(ProgressEvent(f"the rows of {name} are read", 1, 1, warnings=told))


def _kept(fit: Sequence[Row], selection: Sequence[Row], seed: int) -> list[Row]:
    """The rows whose features are kept, in an order in which rows for selection sit out.

    A router is calibrated on the rows that sit out of its sums: how strange they look, and how
    sure the expert is of them, which of rows that it was trained on says nothing.
    """
    from expertbank.routing.statistics import sits_out

    out = sits_out(min(FEATURE_ROWS, len(fit) + len(selection))).tolist()
    beside = take(selection, sum(out), seed)
    held = set(beside)
    others = take([row for row in (*fit, *selection) if row not in held], len(out), seed)
    # A label with few rows may leave fewer for selection than should sit out.
    spare = iter([*beside, *others[len(out) - sum(out) :]])
    rest = iter(others)
    return [next(spare if sits else rest) for sits in out]


def require_settings(
    task: TaskSpec, adapter: AdapterConfig, train: TrainConfig, tune: TuneConfig | None
) -> None:
    """Refuse settings that no data could mend, before any is read.

    Raises:
        InputError: settings that change nothing for the task's kind, a kind of adapter that is not
            here, or a size that it does not have.
    """
    require_effect(task.name, task.kind, adapter, train, tune)
    if adapter == AdapterConfig():
        return  # without a look at the kind, which would import it
    try:
        ADAPTERS.get(adapter.kind).settled(adapter)
    except NotFoundError as error:
        raise InputError(str(error)) from error


def _remarks(encoded: Mapping[Row, EncodedRow], kind: Kind, limit: int) -> list[str]:
    """What becomes of rows when they are tokens."""
    same = SameTokens()
    for row, tokens in encoded.items():
        same.see(row, tokens.to_write_on.sequences)
    cut = sum(tokens.truncated for tokens in encoded.values())
    return same.remarks() + ([cut_remark(cut, len(encoded), limit, kind)] if cut else [])


def _require_enough_rows(spec: FeatureSpec, data: TaskData) -> None:
    """Where statistics only are kept, those of a few rows would give the rows away."""
    if spec.keep == "stats" and len(data.train) < STATISTICS_ROWS:
        raise InputError(
            f"this bank keeps statistics only, and those of {len(data.train)} training rows "
            f"would give the rows away; bring at least {STATISTICS_ROWS}"
        )


def _require_new(workspace: Workspace, name: str, *, new_version: bool) -> int:
    """The version to make."""
    version = workspace.registry.next_version(name)
    if version > 1 and not new_version:
        if workspace.registry.task(name).removed_at is not None:
            last = f"{name}@{version - 1}"
            gone = last in workspace.registry.purged_experts()
            raise ExistsError(
                f"task {name!r} was removed, and the files of its expert {last} "
                f"{'were deleted by gc' if gone else 'are kept'}; "
                "train another version with --new-version, which makes the task alive again"
            )
        raise ExistsError(
            f"task {name!r} has expert {name}@{version - 1}; experts never change. "
            "Train another version with --new-version"
        )
    return version


def _source_facts(data: TaskData) -> dict[str, object]:
    return {
        "source": storable(data.source),
        "revision": data.revision,
        "counts": dict(data.counts),
        "digests": dict(data.digests),
        "spec": data.spec.to_dict(),
        "columns": plain(data.columns),
        "unread": [storable(name) for name in data.unread],
        "files": [asdict(replace(file, file=storable(file.file))) for file in data.files],
        "remarks": [storable(remark) for remark in data.warnings],
    }
