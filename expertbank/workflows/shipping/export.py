"""``export``: one verified folder in some format. A format is a file of its own beside this one.

What every format has is here: what is shipped, a folder that is made beside its place, read back,
compared with the bank and only then given its name, and the entry in the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Protocol

from expertbank.artifacts.bundle import BundleWriter
from expertbank.config import ExportFormat
from expertbank.errors import InputError, NotFoundError, ReadOnlyError
from expertbank.files.paths import storable
from expertbank.kinds import KINDS
from expertbank.records import (
    ExpertRecord,
    ExportRecord,
    ProgressCallback,
    ProgressEvent,
    RouterRecord,
    Row,
)
from expertbank.workflows.presence import require_kept, require_router
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.routing.router import Router

_HERE = "expertbank.workflows.shipping"
FORMATS: Mapping[ExportFormat, str] = {
    "bundle": f"{_HERE}.export_bundle:Bundle",
    "peft": f"{_HERE}.export_peft:Peft",
    "gguf": f"{_HERE}.export_gguf:Gguf",
}
"""By what ``--format`` calls it, the class of each format; imported when it is asked for."""

PROBES = (
    Row("The referee stopped the match after ninety minutes of rain."),
    Row("is the sky blue", "Rayleigh scattering sends short wavelengths in all directions."),
    Row("Shares of the bank rose by four per cent on Monday, its best day this year.", None),
    Row("do you share my data", "We never sell personal information to third parties."),
    Row("Tracy had an accident on the way to work.", None, ("She was late.", "She sang.")),
    Row("Where would you keep milk?", None, ("in a drawer", "in the fridge", "on the roof")),
)
"""Rows on which what was written must give what the bank gives, before it is called done. What they
say does not matter; that every shape of row occurs does."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What may go along, where the format has a place for it.

    Attributes:
        with_backbone: the backbone's files.
        for_import: features, evidence and runs, so that another bank can take the experts over;
            features are made from the rows they were trained on.
        statistics: with ``for_import``: sums over rows in place of features, and no row.
    """

    with_backbone: bool = False
    for_import: bool = False
    statistics: bool = False


@dataclass(frozen=True, slots=True)
class Shipped:
    """What is shipped.

    Attributes:
        workspace: the open bank.
        record: of its active router.
        router: that router, cut to the tasks that were named.
        masked: whether members were left out by that.
        experts: those of the router, in its order.
    """

    workspace: Workspace
    record: RouterRecord
    router: Router
    masked: bool
    experts: tuple[ExpertRecord, ...]


class Format(Protocol):
    """A format of exports, made with the ``Extras`` that are wanted.

    Raises:
        InputError: when it is made: it has no place for them, or needs a package that is missing.
    """

    name: ExportFormat

    @property
    def needs_weights(self) -> bool:
        """Whether it is of no use for an expert that is answered elsewhere."""
        ...

    def write(self, shipped: Shipped, writer: BundleWriter) -> dict[str, Any]:
        """Write all files but the manifest; what that says."""
        ...

    def compare(
        self, shipped: Shipped, folder: Path, progress: ProgressCallback
    ) -> tuple[dict[str, Any], ...]:
        """Read the folder as its readers would, and hold it against the bank.

        Returns:
            What each adapter does in the model that readers load, where there are adapters.

        Raises:
            IntegrityError: it is not the bank's, or does something else.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    ``recorded`` is false for a read-only bank, whose history cannot tell of the export.
    ``effects`` says of every adapter what it does in the model that readers load.
    """

    path: Path
    digest: str
    experts: tuple[str, ...]
    router_version: int
    bytes: int
    format: str = "bundle"
    verified: bool = True
    recorded: bool = True
    effects: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        return {
            "path": str(self.path),
            "format": self.format,
            "digest": self.digest,
            "experts": list(self.experts),
            "router": self.router_version,
            "bytes": self.bytes,
            "verified": self.verified,
            "recorded": self.recorded,
            **({"effects": list(self.effects)} if self.effects else {}),
        }


def export(
    workspace: Workspace,
    target: Path,
    name: ExportFormat,
    *,
    tasks: Sequence[str],
    extras: Extras,
    progress: ProgressCallback,
) -> ExportResult:
    """Write the active router's experts to ``target``, read them back, compare, publish.

    Args:
        workspace: the open bank.
        target: folder to make; an older export of the format there is replaced, anything else is
            not touched.
        name: of the format.
        tasks: only these tasks.
        extras: what goes along.
        progress: told as what was written is verified.

    Raises:
        NotFoundError: no router yet, or a task that it does not serve.
        InputError: no such format, or extras that it has no place for; or an adapter elsewhere
            answers a task.
        ExistsError: ``target`` is something else than an export of this format.
        UnsupportedModelError: the format has no way to say what an expert changes.
        IntegrityError: what was written is not the bank's; nothing is published.
    """
    form = format_of(name, extras)
    shipped = _shipped(workspace, tasks)
    if form.needs_weights:
        _require_weights(shipped.router)
    writer = BundleWriter(target, name)  # what cannot be written is told before a model is loaded
    try:
        digest = writer.finish(form.write(shipped, writer))
        effects = form.compare(shipped, writer.folder, progress)
        size = sum(path.stat().st_size for path in writer.folder.rglob("*") if path.is_file())
        writer.publish()
        told = f"{writer.target} was written"
        progress(ProgressEvent("publishing", 1, 1, lasting=told))
    finally:
        writer.discard()
    ids, version = tuple(expert.id for expert in shipped.experts), shipped.record.version
    recorded = _record(workspace, ExportRecord(digest, name, storable(writer.target), version, ids))
    return ExportResult(
        writer.target, digest, ids, version, size, name, recorded=recorded, effects=effects
    )


def named(expert: ExpertRecord) -> dict[str, Any]:
    """What every manifest says of an expert first."""
    return {
        "id": expert.id,
        "task": expert.task,
        "version": expert.version,
        "digest": expert.digest,
        "kind": expert.kind,
        "labels": list(expert.labels),
    }


def format_of(name: ExportFormat, extras: Extras) -> Format:
    """The format that is called so, with what is to go along.

    Raises:
        InputError: there is none, or it has no place for them.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; known: {', '.join(FORMATS)}")
    if extras.statistics and not extras.for_import:
        raise InputError("--statistics says what --for-import takes along; give both")
    form: Format = resolve_name(FORMATS[name])(extras)
    return form


def _record(workspace: Workspace, made: ExportRecord) -> bool:
    """Put an export into the history; false for a bank that cannot be written to."""
    if workspace.registry.read_only:
        return False
    try:
        with workspace.writing():
            workspace.registry.commit_export(made)
    except ReadOnlyError:  # a server tells with the first write what its user may do
        return False
    return True


def _shipped(workspace: Workspace, tasks: Sequence[str]) -> Shipped:
    """The active router, cut to ``tasks`` if any are named, and its experts.

    Raises:
        NotFoundError: no router yet, a task that it does not serve, or one whose files were purged.
        IntegrityError: a file of the router's or of one of its experts is gone.
    """
    try:
        record = workspace.registry.router()
    except NotFoundError as error:
        raise NotFoundError("there is no router to ship; run: expertbank retrain-router") from error
    router = workspace.router(record)
    known = [member.task for member in router.members]
    for task in tasks:
        if task not in known:
            raise NotFoundError.of("task", task, known)
    require_kept(workspace, record, tasks)
    require_router(workspace, record, tasks)
    cut = router.subset(tasks) if tasks else router
    experts = tuple(workspace.registry.expert(member.id) for member in cut.members)
    return Shipped(workspace, record, cut, len(cut.members) < len(known), experts)


def _require_weights(router: Router) -> None:
    """Refuse to ship what is answered elsewhere: whoever gets it would have no answer.

    Raises:
        InputError: a member is; the message names the tasks that are not.
    """
    without = [one.id for one in router.members if KINDS.get(one.kind).elsewhere]
    if not without:
        return
    own = [one.task for one in router.members if one.id not in without]
    rest = f"leave them out with {' '.join(f'--task {task}' for task in own)}, or " if own else ""
    raise InputError(
        f"adapters of another program answer {', '.join(without)}, and the bank has no weights of "
        f"them to ship; {rest}take them to another bank with --for-import"
    )
