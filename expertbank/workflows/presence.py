"""Are the files there that a router needs? Looked up, not read: soundness is for ``verify``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from expertbank.artifacts.store import ArtifactStore
from expertbank.errors import IntegrityError
from expertbank.records import ExpertRecord, RouterRecord
from expertbank.registry import names
from expertbank.wording import few
from expertbank.workflows.workspace import Workspace


def require_present(
    store: ArtifactStore, wanted: Mapping[str, str], otherwise: Callable[[str], str]
) -> None:
    """Refuse to rest anything on files that are gone.

    Args:
        store: where they should be.
        wanted: by digest whose file it is.
        otherwise: by digest what can be done instead of putting that file back.

    Raises:
        IntegrityError: a file is gone; it says whose, where it was and how it comes back.
    """
    gone = [(owner, digest) for digest, owner in wanted.items() if store.state(digest) is None]
    if not gone:
        return
    owner, digest = gone[0]
    others = [f"that of {name}" for name, _ in gone[1:]]
    beside = f"; so is {few(others, 4)}" if others else ""
    raise IntegrityError(
        f"the file of {owner} is gone: {store.where(digest)}{beside}. Copy it back from a backup "
        f"of the bank, or take the expert from a bundle again: expertbank import; or "
        f"{otherwise(digest)}"
    )


def files_of(experts: Iterable[ExpertRecord]) -> dict[str, str]:
    """By digest whose file it is."""
    return {expert.digest: f"expert {expert.id}" for expert in experts}


def require_kept(workspace: Workspace, router: RouterRecord, tasks: Collection[str] = ()) -> None:
    """Refuse a router whose experts' files ``gc`` deleted on purpose.

    Args:
        workspace: the open bank.
        router: the router.
        tasks: ask only after the members of these; default all.

    Raises:
        NotFoundError: there are such; the message names them.
    """
    purged = set(workspace.registry.purged_experts())
    own = (name for name in router.members if not tasks or name.partition("@")[0] in tasks)
    gone = [name for name in own if name in purged]
    if gone:
        alive = workspace.registry.has_members()
        raise names.purged(router.version, gone, alive=alive)


def require_router(workspace: Workspace, router: RouterRecord, tasks: Collection[str] = ()) -> None:
    """Refuse a router that could not answer: its own file or that of a member is gone.

    Files that ``gc`` deleted on purpose are the registry's matter, which says more of them.

    Args:
        workspace: the open bank.
        router: the router.
        tasks: ask only after the members of these; default all.

    Raises:
        IntegrityError: a file is gone; it says whose, where it was and how it comes back.
    """
    registry, members = workspace.registry, set(router.members)
    purged = {one.digest for one in registry.artifacts() if one.purged_at is not None}
    wanted = {router.digest: f"router@{router.version}"}
    wanted |= files_of(
        expert
        for expert in registry.experts()
        if expert.id in members and (not tasks or expert.task in tasks)
    )
    there = {digest: owner for digest, owner in wanted.items() if digest not in purged}
    other = "use another router: expertbank alias active router@N"
    require_present(workspace.store, there, lambda _: other)
