"""Routed choices as a bank stores them, where they changed, read for any router."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from expertbank.errors import IntegrityError
from expertbank.evaluation.evidence import RoutedEvidence, column_name, summary
from expertbank.evaluation.history import RouterView, router_columns
from expertbank.evaluation.outcome import Answered
from expertbank.records import EvaluationRecord, ExpertRecord, RouterRecord
from expertbank.workflows.workspace import Workspace

RESTORE = "restore the database from a backup: expertbank db --help"


@dataclass(frozen=True, slots=True)
class _Columns:
    """What a router chooses among: tasks by column, the columns' names, and their places."""

    tasks: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    places: Mapping[str, int]


class StoredChoices:
    """What experts were measured under the routers that contain them.

    A measurement is stored where it changed: what holds for router N is an expert's newest one
    that is not of a later router. A router's run says by ``summary`` what it was registered with,
    so that a row that is missing or was exchanged is noticed. Routers of before have all their
    measurements stored with them.

    Attributes:
        unmeasured: experts none of whose rows are kept: they were never measured under a router.
    """

    def __init__(self, workspace: Workspace, routers: Sequence[RouterRecord]) -> None:
        registry = workspace.registry
        self._registry, self._store = registry, workspace.store
        self._routers = {router.version: router for router in routers}
        self._stored: dict[str, list[EvaluationRecord]] = {}
        for row in sorted(registry.evaluations(router_version="routed"), key=_version):
            self._stored.setdefault(row.expert_id, []).append(row)
        rows = {one.expert_id: one.n_eval for one in registry.feature_sets()}
        # Of a purged expert no features are left: whether it was measured says what is stored.
        self.unmeasured = {
            one.id for one in registry.experts() if not rows.get(one.id, one.id in self._stored)
        }
        self._columns: dict[int, _Columns] = {}
        self._read: dict[int | None, RoutedEvidence] = {}

    def check(self, routers: Iterable[RouterRecord]) -> None:
        """Refuse measurements that are not those which the routers were registered with.

        Raises:
            IntegrityError: the first router for which it is so.
        """
        for router in routers:
            run = self._registry.run(router.run_id or 0)
            own = [name for name in router.members if name not in self.unmeasured]
            rows = {name: self._under(name, router.version) for name in own}
            said = run.data.get("evidence")
            if said is None:
                for name, row in rows.items():
                    if row.router_version != router.version:
                        raise _missing(name, router.version)
            elif said != summary({name: row.artifact_digest for name, row in rows.items()}):
                raise IntegrityError(
                    f"router@{router.version}: the evaluations of its experts are not those that "
                    f"it was registered with; {RESTORE}"
                )

    def view(self, expert: ExpertRecord, oracle: Answered, router: RouterRecord) -> RouterView:
        """What a router chose for an expert's rows, counted and compared with the registry.

        Args:
            expert: one of the router's members.
            oracle: its stored answers.
            router: one that was not forgotten, or the first that contained the expert.

        Raises:
            IntegrityError: the file is damaged, or the registry has other figures.
        """
        row = self._under(expert.id, router.version)
        known = row.id in self._read
        evidence = self._evidence(row)
        columns = self._columns_of(router)
        try:
            choice = evidence.positions(columns.places)
        except KeyError as error:
            raise IntegrityError(
                f"{expert.id}: what is stored of its rows under router@{router.version} names "
                f"{error}, which that router does not know; {RESTORE}"
            ) from error
        view = RouterView(router.version, columns.tasks, choice)
        if not known and len(choice) == oracle.outcome.n:
            _compare(expert, oracle, row, view)
        return view

    def _under(self, name: str, version: int) -> EvaluationRecord:
        """What holds of an expert for a router.

        Raises:
            IntegrityError: nothing does.
        """
        stored = self._stored.get(name, [])
        place = bisect_right(stored, version, key=_version)
        if not place:
            raise _missing(name, version)
        return stored[place - 1]

    def _evidence(self, row: EvaluationRecord) -> RoutedEvidence:
        if row.id not in self._read:
            router = self._routers.get(_version(row))
            names = () if router is None else self._columns_of(router).names
            data = self._store.get(row.artifact_digest)
            where = f"{row.expert_id}: choices of router@{row.router_version}"
            self._read[row.id] = RoutedEvidence.from_bytes(data, where, names)
        return self._read[row.id]

    def _columns_of(self, router: RouterRecord) -> _Columns:
        if router.version not in self._columns:
            # The groups that it was fitted with, whatever they are now.
            groups = router.group_of
            tasks = router_columns([name.partition("@")[0] for name in router.members], groups)
            names = tuple(column_name(each[0], groups.get(each[0])) for each in tasks)
            places = {name: place for place, name in enumerate(names)}
            self._columns[router.version] = _Columns(tasks, names, places)
        return self._columns[router.version]


def same_count(expert_id: str, under: str, recorded: int, recounted: int) -> None:
    """Refuse a registered number of right rows that the stored evidence does not give.

    Raises:
        IntegrityError: the two differ.
    """
    if recorded != recounted:
        raise IntegrityError(
            f"{expert_id}: with {under} the registry says {recorded} rows were right, the stored "
            f"evidence gives {recounted}; {RESTORE}"
        )


def _compare(
    expert: ExpertRecord, oracle: Answered, row: EvaluationRecord, view: RouterView
) -> None:
    under = f"router@{row.router_version}"
    correct = oracle.outcome.correct(view.chose(expert.task))
    same_count(expert.id, under, row.correct, correct)
    quality = view.quality(expert.task, oracle)
    if row.metrics.get("quality", quality) != quality:
        raise IntegrityError(
            f"{expert.id}: with {under} the registry says quality {row.metrics['quality']}, the "
            f"stored evidence gives {quality}; {RESTORE}"
        )


def _version(row: EvaluationRecord) -> int:
    return row.router_version or 0


def _missing(name: str, version: int) -> IntegrityError:
    return IntegrityError(
        f"{name}: router@{version} contains it, but what it was measured under it is not stored; "
        f"{RESTORE}"
    )
