"""What a report rests on: digests from the registry, compared with what the files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expertbank.errors import MALFORMED, IntegrityError
from expertbank.evaluation.lineage import ExpertLineage, Lineage, RouterLineage
from expertbank.files.header import read_header
from expertbank.records import ExpertRecord, RouterRecord
from expertbank.references import without_folders
from expertbank.workflows.environment import package_versions
from expertbank.workflows.proving.evidence import RESTORE
from expertbank.workflows.workspace import Workspace


def check_router(workspace: Workspace, router: RouterRecord, experts: Mapping[str, str]) -> None:
    """Rehash a router's file and compare its members, pinned with digests, with the registry.

    Reads only the file's header: torch is not needed.

    Args:
        workspace: the open bank.
        router: the registered router.
        experts: digest of every registered expert by its name.

    Raises:
        IntegrityError: the file changed, or the registry names other members, other groups or
            other experts under their names.
    """
    where = f"router@{router.version}"
    header = read_header(workspace.store.get(router.digest), where)
    try:
        members = header.metadata["members"]
        pinned = {str(member[0]): str(member[1]) for member in members}
        columns: dict[int, set[str]] = {}
        for member in members:
            columns.setdefault(int(member[4]), set()).add(str(member[0]))
        named = {str(member[0]): str(member[6]) for member in members if len(member) > 6}
    except MALFORMED as error:
        raise IntegrityError(f"{where}: its file names no members ({error!r})") from error
    if set(pinned) != set(router.members):
        raise IntegrityError(
            f"{where}: its file has members {', '.join(sorted(pinned))}, the registry says "
            f"{', '.join(sorted(router.members))}"
        )
    group_of = router.group_of
    groups = {name: group_of.get(name.partition("@")[0]) for name in router.members}
    said: dict[tuple[str | None, str], set[str]] = {}
    for name, group in groups.items():
        said.setdefault((group, "") if group else (None, name), set()).add(name)
    apart = sorted(map(sorted, columns.values())) != sorted(map(sorted, said.values()))
    # Files of before do not name their groups.
    if apart or (named and named != {name: group for name, group in groups.items() if group}):
        raise IntegrityError(
            f"{where}: its file holds other groups than the registry says; restore the database "
            "from a backup: expertbank db --help"
        )
    for name, digest in pinned.items():
        if experts.get(name) != digest:
            raise IntegrityError(
                f"{where} was trained with {name} of digest {digest}, the registry says "
                f"{experts.get(name)}; {RESTORE}"
            )


def lineage(
    workspace: Workspace,
    experts: Sequence[ExpertRecord],
    routers: Sequence[RouterRecord],
    answers: Mapping[str, str],
) -> Lineage:
    """Everything a reader needs to find the files behind the figures.

    Args:
        workspace: the open bank.
        experts: those of the report.
        routers: those of the report.
        answers: digest of the stored answers by expert.
    """
    backbone = workspace.backbone_record
    return Lineage(
        without_folders(backbone.reference),
        backbone.digest,
        backbone.feature_spec.to_dict(),
        tuple(_expert(workspace, expert, answers[expert.id]) for expert in experts),
        tuple(
            RouterLineage(r.version, r.kind, r.digest, r.created_at, r.members, r.groups)
            for r in {r.version: r for r in sorted(routers, key=lambda r: r.version)}.values()
        ),
        package_versions(),
    )


def _expert(workspace: Workspace, expert: ExpertRecord, answers: str) -> ExpertLineage:
    assert expert.run_id is not None
    run = workspace.registry.run(expert.run_id)
    data = {str(split): str(digest) for split, digest in run.data.get("digests", {}).items()}
    return ExpertLineage(
        expert.id,
        expert.digest,
        expert.created_at,
        without_folders(str(run.data.get("source", ""))),
        data,
        answers,
        run.seed,
    )
