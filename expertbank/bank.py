"""``Bank``: one short method per use case. The bodies are in ``workflows``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

from expertbank.artifacts.cached import CACHE_BYTES
from expertbank.artifacts.lock import WAIT_SECONDS
from expertbank.config import (
    DEFAULT_GATE,
    DEFAULT_MARGIN,
    GRACE_HOURS,
    TYPICAL_ROWS,
    UNKNOWN_GROUPS,
    AdapterConfig,
    BankConfig,
    ExportFormat,
    TrainConfig,
    TuneConfig,
    bank_config,
)
from expertbank.data import Columns, ReadAs, RowLike, TaskCheck, TaskSpec
from expertbank.data.check import TOKENS_PER_SECOND
from expertbank.errors import InputError
from expertbank.files.paths import given_path
from expertbank.plain import texts
from expertbank.records import (
    AliasRecord,
    BackboneRecord,
    ExpertRecord,
    HistoryEvent,
    ProgressCallback,
    RouterRecord,
    TaskRecord,
    no_progress,
)
from expertbank.registry.registry import Registry
from expertbank.reports import notebook
from expertbank.routing.config import RouterConfig
from expertbank.workflows.growing.add import AddResult, add, commit
from expertbank.workflows.growing.check import check_request
from expertbank.workflows.growing.crowd import Crowd, add_many
from expertbank.workflows.growing.grouping import Grouped, group_tasks
from expertbank.workflows.growing.initialise import initialise
from expertbank.workflows.growing.jobs import AddJob, Executor, FinishedJob
from expertbank.workflows.growing.prepare import prepare
from expertbank.workflows.growing.request import AddRequest
from expertbank.workflows.growing.retrain import RouterResult, retrain_router
from expertbank.workflows.home import RESTORE_INSTEAD, folder_of, home_at
from expertbank.workflows.keeping.check import Verification, check
from expertbank.workflows.keeping.collect import collect
from expertbank.workflows.keeping.remove import Removal, remove
from expertbank.workflows.keeping.standing import Standing, standing
from expertbank.workflows.keeping.survey import Collection
from expertbank.workflows.presence import require_router
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from expertbank.config import BankKeywords
    from expertbank.reports.bank_map import BankMap
    from expertbank.reports.forgetting import ForgettingReport
    from expertbank.workflows.answering.answers import Answers
    from expertbank.workflows.answering.evaluate import Evaluated
    from expertbank.workflows.answering.experts import Experts
    from expertbank.workflows.answering.predict import Predictor
    from expertbank.workflows.answering.unknown_groups import Unknowns
    from expertbank.workflows.home import Home
    from expertbank.workflows.keeping.copying import Copied
    from expertbank.workflows.keeping.doctor import Diagnosis
    from expertbank.workflows.keeping.restore import Restored
    from expertbank.workflows.shipping.export import ExportResult
    from expertbank.workflows.shipping.import_peft import PeftImported
    from expertbank.workflows.shipping.importing import Imported


class Bank:
    """A folder or database of frozen experts that only grows. Use ``Bank.open``.

    Safe for several processes at once; one object may be shared by threads for prediction.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._predictor: Predictor | None = None
        self._predictor_lock = Lock()

    @classmethod
    def open(
        cls,
        path: str | Path | Home,
        *,
        backbone: str | None = None,
        device: str | None = None,
        create: bool = True,
        read_only: bool = False,
        lock_wait: float = WAIT_SECONDS,
        store: str | None = None,
        cache: str | Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> Bank:
        """Open the bank at ``path``.

        Args:
            path: the bank's folder, or the URL of a PostgreSQL database that several machines
                share, such as ``postgresql+psycopg://user@host/bank``.
            backbone: Hub name or folder of the backbone. For a new bank the one to use; for an
                existing one where to find it: it must have the recorded digest. Default the
                recorded one, else all-MiniLM-L6-v2.
            device: where the backbone runs, such as ``cpu`` or ``cuda:0``; default the first
                CUDA device, else Apple's ``mps``, else the CPU.
            create: let there be none; what writes first (``init``, ``add``, ``import_bundle``)
                makes it.
            read_only: never write; the bank must exist.
            lock_wait: seconds to wait for commands that need the bank alone, or, for those, for
                commands that write to it.
            store: URL of the store for a new bank's files, such as ``file:///data/objects``,
                without secrets; default a folder in the bank's own. It is recorded, and an
                existing bank is opened with it and no other. Each bank needs one of its own. A
                bank in a database needs one.
            cache: this machine's folder for what banks in databases need here, such as the state
                of unfinished training; default the platform's folder for caches.
            cache_bytes: most bytes of copies to keep on this machine of what a distant store
                holds.

        Raises:
            InputError: ``path`` is empty or the URL of something else, or ``store`` is not the
                recorded one.
            NotFoundError: no bank there and ``create`` is false; with it, whatever reads a bank
                that nothing was written to.
            SchemaTooNewError: a newer expertbank made it.
        """
        workspace = Workspace.open(
            path,
            create=create and not read_only,
            read_only=read_only,
            reference=backbone,
            device=device,
            lock_wait=lock_wait,
            store_url=store,
            cache=None if cache is None else given_path(cache, "the cache folder"),
            cache_bytes=cache_bytes,
        )
        return cls(workspace)

    def close(self) -> None:
        """Let go of the database; whatever is asked later opens it again."""
        self._workspace.close()

    def __enter__(self) -> Bank:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what changes the bank -------------------------------------------------------------

    def init(
        self, config: BankConfig | None = None, **settings: Unpack[BankKeywords]
    ) -> BackboneRecord:
        """Fix the backbone and the feature spec; repeating the same is harmless.

        Args:
            config: what the bank shall be.
            settings: the same as keywords, such as ``max_length=128``; see ``BankConfig``.

        Raises:
            FeatureSpecError: the bank has other values.
            InputError: the bank has another store, no new one can be used, or a keyword is a
                setting of something else; ``TypeError`` for one that is a setting of nothing.
            IntegrityError: the bank has another backbone.
        """
        return initialise(self._workspace, bank_config(config, settings))

    def add(
        self,
        task: str | TaskSpec,
        *,
        data: str | Path | None = None,
        adapter: AdapterConfig | None = None,
        train: TrainConfig | None = None,
        group: str | None = None,
        new_version: bool = False,
        resume: bool = False,
        bank: BankConfig | None = None,
        on: Executor | None = None,
        rehash: bool = False,
        tune: TuneConfig | None = None,
        progress: ProgressCallback = no_progress,
        **settings: Unpack[BankKeywords],
    ) -> AddResult:
        """Train one expert, freeze it, register it.

        Args:
            task: a catalog name, a new name together with ``data``, or a spec.
            data: folder, file, ``hf:org/name[:config][@revision]`` or ``pkg:package/path``.
            adapter: shape of the adapter.
            train: how to train.
            group: tasks of one group answer the same texts: the router picks the group, and
                all its experts answer. Of a task that is there already, ``Bank.group`` changes it.
            new_version: allow a further version of a task that has an expert.
            resume: go on with an interrupted run of the same call, if there is one.
            bank: for a bank without backbone, what it shall be.
            on: where to train and measure; default in this process.
            rehash: hash the backbone's files, whatever is remembered of them.
            tune: search for rates, alpha and decay first, such as ``TuneConfig(trials=20)``.
            progress: called as work goes on.
            settings: the fields of ``bank`` as keywords.

        Raises:
            ExistsError: the task has an expert and ``new_version`` is false.
            NotFoundError: neither in the catalog nor given ``data``.
            DataError: unusable data, by file and line.
            TrainingError: the loss stopped being a number.
        """
        bank = bank_config(bank, settings)
        request = AddRequest(
            *(task, data, adapter, train, group, new_version, bank, rehash, tune, resume)
        )
        return add(self._workspace, request, progress, on=on)

    def unfinished(self) -> tuple[str, ...]:
        """Tasks whose training this object began and whose state is kept: see ``add(resume=)``."""
        return self._workspace.unfinished()

    def add_many(
        self,
        requests: Sequence[AddRequest],
        crowd: Crowd | None = None,
        *,
        progress: ProgressCallback = no_progress,
        added: Callable[[AddResult], None] = lambda result: None,
    ) -> list[AddResult | Exception]:
        """Train several experts, and register each as it is done; one that fails stops no other.

        Only this process writes the bank. See ``Processes`` and ``Ray`` for who may train at once,
        and ``add`` for what each request says.

        Args:
            requests: what to add; two of one task wait for each other.
            crowd: who trains and measures; default this process, one after the other.
            progress: called as work goes on; of a crowd's, ``of`` names the expert.
            added: called as each is registered.

        Returns:
            By request what was added, or why not.
        """
        return add_many(self._workspace, requests, crowd, progress=progress, added=added)

    def prepare(
        self,
        task: str | TaskSpec,
        *,
        data: str | Path | None = None,
        adapter: AdapterConfig | None = None,
        train: TrainConfig | None = None,
        group: str | None = None,
        new_version: bool = False,
        bank: BankConfig | None = None,
        rehash: bool = False,
        **settings: Unpack[BankKeywords],
    ) -> AddJob:
        """Read, check and encode what an expert is made of, to train it elsewhere.

        The job is a plain picklable value. ``expertbank.run_job`` trains and measures it in any
        process, and ``commit`` registers what that gives. Arguments and errors are those of
        ``add``, which does all three.
        """
        bank = bank_config(bank, settings)
        request = AddRequest(task, data, adapter, train, group, new_version, bank, rehash)
        return prepare(self._workspace, request)

    def check(
        self,
        request: AddRequest,
        *,
        tokens_per_second: float = TOKENS_PER_SECOND,
        progress: ProgressCallback = no_progress,
    ) -> TaskCheck:
        """Try out what ``add`` would be asked: rows, labels, lengths, and what stands in the way.

        Nothing is trained or written, and no backbone is loaded.

        Args:
            request: what would be added, such as ``AddRequest("tickets", "tickets.csv")``.
            tokens_per_second: assumed speed of training, for the estimate.
            progress: told as files are read.

        Raises:
            BadRowsError: rows so bad that the others cannot be used either.
            DataError: a file is unusable.
            InputError: settings or a source that cannot be.
        """
        registry = self._workspace.registry if self._workspace.exists else None
        return check_request(
            registry, request, tokens_per_second=tokens_per_second, progress=progress
        )

    def commit(self, done: FinishedJob) -> AddResult:
        """Register an expert that a job of this bank gave, wherever that ran.

        Raises:
            InputError: the job was prepared for another bank.
            IntegrityError: a file is damaged, or is not what the job asked for.
            ExistsError: the version was taken meanwhile.
            StaleError: the bank was restored to before the job was prepared.
        """
        return commit(self._workspace, done)

    def retrain_router(
        self,
        kind: str | None = None,
        *,
        config: RouterConfig | None = None,
        activate: bool = True,
        progress: ProgressCallback = no_progress,
    ) -> RouterResult:
        """Fit only the router, from cached features; no old text, no expert weight is touched.

        Args:
            kind: ``lda``, ``ridge``, ``noisy-top1``, ``mlp`` or a plugin's; default
                ``default_gate``.
            config: all settings, instead of ``kind``.
            activate: move the alias ``active`` to it.
            progress: called as work goes on.

        Raises:
            NotFoundError: no live expert.
            StaleError: the bank changed meanwhile.
            IntegrityError: an expert's file is gone, or cached features changed on disk.
            InputError: no such gate, or one that needs rows in a bank that keeps statistics; or
                both ``kind`` and ``config``.
        """
        if config is None:
            settings = RouterConfig(self.default_gate if kind is None else kind)
        elif kind is None and isinstance(config, RouterConfig):
            settings = config
        else:
            raise InputError("give the gate as kind=NAME, or as config=RouterConfig(NAME, …)")
        return retrain_router(self._workspace, settings, activate=activate, progress=progress)

    @property
    def default_gate(self) -> str:
        """The gate of a user who names none: the paper's in a bank of route layer 0."""
        record = self.backbone()
        return record.feature_spec.default_gate if record else DEFAULT_GATE

    def set_alias(self, name: str, router: str | int) -> AliasRecord:
        """Point an alias (``active`` decides what ``predict`` uses) at a router.

        Raises:
            NotFoundError: no such router, or its files were deleted by ``gc``.
            IntegrityError: its file or that of one of its experts is gone.
        """
        with self._workspace.writing():
            require_router(self._workspace, self._workspace.registry.router(router))
            return self._workspace.registry.set_alias(name, router, "set by the user")

    def group(self, name: str, tasks: str | Sequence[str], *, dry_run: bool = False) -> Grouped:
        """Let tasks answer the same texts together, from the next ``retrain_router`` on.

        No expert is trained or changed. Routers that are fitted keep the groups they have.

        Args:
            name: of the group: as of tasks, and no task's.
            tasks: one task or several; those of another group leave it.
            dry_run: only tell what would happen.

        Raises:
            InputError: a name that cannot be, no task, or tasks that cannot read the same rows.
            NotFoundError: no such task, or it was removed.
            ExistsError: a task is called like the group.
            LockedError: ``gc`` kept the bank for too long.
        """
        return group_tasks(self._workspace, name, tasks, dry_run=dry_run)

    def ungroup(self, tasks: str | Sequence[str], *, dry_run: bool = False) -> Grouped:
        """Let tasks stand alone again, from the next ``retrain_router`` on.

        Args:
            tasks: one task or several.
            dry_run: only tell what would happen.

        Raises:
            InputError: no task.
            NotFoundError: no such task.
            LockedError: ``gc`` kept the bank for too long.
        """
        return group_tasks(self._workspace, None, tasks, dry_run=dry_run)

    def remove(self, task: str, *, dry_run: bool = False) -> Removal:
        """Leave a task out of every router to come; its expert and evidence stay.

        Args:
            task: the task.
            dry_run: only tell what would happen.

        Raises:
            NotFoundError: no such task.
            LockedError: ``gc`` kept the bank for too long.
        """
        return remove(self._workspace, task, dry_run=dry_run)

    def gc(
        self,
        *,
        dry_run: bool = False,
        purge_removed: bool = False,
        keep_routers: int | None = None,
        grace_hours: float = GRACE_HOURS,
        progress: ProgressCallback = no_progress,
    ) -> Collection:
        """Delete what nothing refers to.

        Args:
            dry_run: only tell what would be deleted.
            purge_removed: also delete what only removed tasks need, for good.
            keep_routers: also delete, for good, what only routers need that are neither among
                so many newest ones nor named by an alias.
            grace_hours: leave younger leftovers alone.
            progress: called as files are deleted.

        Raises:
            LockedError: other commands kept writing for too long.
        """
        return collect(
            self._workspace,
            dry_run=dry_run,
            purge_removed=purge_removed,
            keep_routers=keep_routers,
            grace_hours=grace_hours,
            progress=progress,
        )

    # -- what reads it -----------------------------------------------------------------------

    def forgetting_report(
        self,
        *,
        margin: float = DEFAULT_MARGIN,
        from_router: str | int | None = None,
        to_router: str | int | None = None,
        verify: bool = False,
        sample: int | None = None,
        with_map: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> ForgettingReport:
        """What every task could do at one time and can do at another.

        Args:
            margin: the largest loss of accuracy that counts as preserved.
            from_router: router to compare with (version, ``router@N`` or alias); default each
                task's first.
            to_router: router to report on; default the active one.
            verify: run the evaluation rows through the real model again.
            sample: with ``verify``, only so many rows of each task, always the same.
            with_map: put the map of the router's tasks in, where there can be one (see ``map``).
            progress: called as verification goes on.

        Raises:
            NotFoundError: no live expert, or no such router.
            IntegrityError: stored evidence is damaged or, with ``verify``, the first row whose
                answer differs.
        """
        from expertbank.workflows.proving.report import forgetting_report

        return forgetting_report(
            self._workspace,
            margin=margin,
            start=from_router,
            end=to_router,
            verify=verify,
            sample=sample,
            with_map=with_map,
            progress=progress,
        )

    def export(
        self,
        path: str | Path = "expertbank-bundle",
        *,
        format: ExportFormat = "bundle",
        tasks: str | Sequence[str] = (),
        with_backbone: bool = False,
        for_import: bool = False,
        statistics: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> ExportResult:
        """Write one verified folder: a bundle that predicts, or LoRA adapters for other programs.

        Args:
            path: folder to make; one of the same format that is there is replaced.
            format: ``bundle``, which predicts without the bank; ``peft`` or ``gguf``, one folder
                per expert with its exact LoRA factors for PEFT or llama.cpp, and its head.
            tasks: only these tasks; default all that the active router serves.
            with_backbone: put the backbone's files into the bundle too.
            for_import: put features, evidence and runs in, so that another bank can take the
                experts over (``import_bundle``).
            statistics: with ``for_import``: exact sums over the training rows in place of
                features, and no row.
            progress: called as the written bundle is verified.

        Raises:
            NotFoundError: no router yet, or a task that it does not serve.
            ExistsError: ``path`` is something else than such an export.
            InputError: ``with_backbone`` or ``for_import`` together with adapters, or
                ``statistics`` without ``for_import``; for ``gguf`` also a backbone that llama.cpp's
                adapters cannot be written for (``UnsupportedModelError``), or no package ``gguf``.
        """
        target = given_path(path, "the folder to write")
        from expertbank.workflows.shipping.export import Extras, export

        return export(
            self._workspace,
            target,
            format,
            tasks=texts(tasks, "tasks"),
            extras=Extras(with_backbone, for_import, statistics),
            progress=progress,
        )

    def import_bundle(
        self,
        source: str | Path,
        *,
        tasks: str | Sequence[str] = (),
        new_version: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> Imported:
        """Take experts over from a bundle that was exported ``for_import``.

        Args:
            source: its folder, or a ``.zip`` file of it.
            tasks: only these; default all.
            new_version: let an expert that differs become a further version of its task.
            dry_run: only check and tell.
            progress: called as experts are read.

        Raises:
            NotFoundError: no bundle there, or no such task in it.
            IntegrityError: another backbone, or a file is not what the manifest says.
            ExistsError: a task has another expert here and ``new_version`` is false.
        """
        from expertbank.workflows.shipping.importing import import_bundle

        return import_bundle(
            self._workspace,
            given_path(source, "the bundle"),
            tasks=texts(tasks, "tasks"),
            new_version=new_version,
            dry_run=dry_run,
            progress=progress,
        )

    def import_peft(
        self,
        source: str | Path,
        task: str | TaskSpec,
        *,
        data: str | Path | None = None,
        labels: Sequence[str] = (),
        fit_head: bool = False,
        same_base: bool = False,
        train: TrainConfig | None = None,
        group: str | None = None,
        new_version: bool = False,
        bank: BankConfig | None = None,
        progress: ProgressCallback = no_progress,
        **settings: Unpack[BankKeywords],
    ) -> PeftImported:
        """Take in a LoRA adapter that PEFT saved, as an expert measured on rows.

        Its head is the one saved with it (``modules_to_save``, or that of a bank's export for
        PEFT); where there is none, one is fitted on the training rows and the adapter is frozen.

        Args:
            source: its folder, with ``adapter_config.json`` and ``adapter_model.safetensors``.
            task: as of ``add``: a catalog name, a new name together with ``data``, or a spec.
            data: labelled rows to measure on and to learn routing from, as of ``add``.
            labels: names of the head's outputs, in their order, where neither the adapter nor
                its rows tell.
            fit_head: fit a head, whatever head it brings.
            same_base: its base is this backbone under another name.
            train: limits of the rows, and how a head is fitted.
            group: as of ``add``.
            new_version: allow a further version of a task that has an expert.
            bank: for a bank without backbone, what it shall be.
            progress: called as work goes on.
            settings: the fields of ``bank`` as keywords.

        Raises:
            NotFoundError: no adapter there.
            InputError: an adapter, a head or labels that cannot be an expert's.
            IntegrityError: a file is damaged, or an export of another backbone's bank.
            ExistsError: the task has an expert and ``new_version`` is false.
            DataError: unusable data, by file and line.
        """
        from expertbank.workflows.shipping.import_peft import PeftRequest, import_peft

        bank = bank_config(bank, settings)
        add = AddRequest(task, data, train=train, group=group, new_version=new_version, bank=bank)
        folder = given_path(source, "the adapter's folder")
        request = PeftRequest(folder, add, texts(labels, "labels"), fit_head, same_base)
        return import_peft(self._workspace, request, progress)

    def predict(
        self,
        rows: RowLike | Iterable[RowLike],
        *,
        task: str | None = None,
        abstain: bool = False,
        fallback: str | None = None,
        second_opinion: bool = False,
    ) -> Answers:
        """Route and answer rows; with ``task`` the router is left out.

        Args:
            rows: one row (a text, a mapping with ``text``, a ``Row``) or many of them: an
                iterable, a DataFrame with a column ``text``, an array, a data set.
            task: the task whose expert answers all of them.
            abstain: answer ``unknown`` to rows that are like no task.
            fallback: send such rows to this task's expert instead.
            second_opinion: where the two best tasks lie close, ask both experts.

        Raises:
            NotFoundError: no router yet, or no such task.
            InputError: a row that cannot be read, or more than one of ``task``, ``abstain`` and
                ``fallback``.
        """
        from expertbank.workflows.answering.answers import Answers

        return Answers(
            self.predictor().predict(
                rows,
                task=task,
                abstain=abstain,
                fallback=fallback,
                second_opinion=second_opinion,
            )
        )

    def unknowns(
        self,
        rows: RowLike | Iterable[RowLike],
        *,
        groups: int = UNKNOWN_GROUPS,
        typical: int = TYPICAL_ROWS,
        out: str | Path | None = None,
        progress: ProgressCallback = no_progress,
    ) -> Unknowns:
        """Group the rows that the bank calls unknown: the next expert to train.

        Args:
            rows: as for ``predict``; a stream is read as it is routed.
            groups: how many of the largest groups to tell of.
            typical: how many typical rows of each.
            out: file to make with the rows of these groups as JSON lines, to be labelled and given
                to ``add``; without it no text is kept.
            progress: called as batches finish.

        Raises:
            NotFoundError: no router yet, or one that cannot tell unknown rows.
            InputError: a row that cannot be read or answered, or numbers below 1.
            ExistsError: ``out`` is there already.
        """
        from expertbank.workflows.answering.unknowns import unknowns

        return unknowns(
            self.predictor(), rows, groups=groups, typical=typical, out=out, progress=progress
        )

    def evaluate(
        self,
        task: str,
        data: str | Path,
        *,
        columns: Columns | None = None,
        read_as: ReadAs | None = None,
        second_opinion: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> Evaluated:
        """Quality of one task's answers on new labelled rows, named and routed.

        Rows are read with the columns and labels of the task's newest expert, which answers when
        the task is named; the router may hold an older one, and then the result tells of both.

        Args:
            task: a task of this bank.
            data: file, folder or other source of labelled rows; where it has rows to train on, its
                test rows are measured, or else those to validate on.
            columns: where these rows' columns are named differently from the expert's.
            read_as: separator and encoding of the file, where it does not tell.
            second_opinion: route as ``predict`` does with it.
            progress: called as batches finish.

        Raises:
            NotFoundError: no such task.
            DataError: unusable rows, or a label that the expert does not know.
        """
        from expertbank.data import source_text
        from expertbank.workflows.answering.evaluate import evaluate

        return evaluate(
            *(self.answerers, self.predictor, task, source_text(data), columns, read_as, progress),
            second_opinion=second_opinion,
        )

    @property
    def answerers(self) -> Experts:
        """Who may be named to answer; the backbone is not loaded."""
        from expertbank.workflows.answering.experts import BankExperts

        return BankExperts(self._workspace)

    def predictor(self) -> Predictor:
        """The predictor over the active router, for streams.

        The same one as long as the bank would answer the same; another when ``active`` names
        another router, also after a restore, by whatever process.
        """
        from expertbank.workflows.answering.serve import bank_predictor

        # One thread loads the backbone, the others wait for it.
        with self._predictor_lock:
            self._predictor = bank_predictor(self._workspace, self._predictor)
            return self._predictor

    def verify(self, *, progress: ProgressCallback = no_progress) -> Verification:
        """Check the database and rehash every stored file."""
        return check(self._workspace, progress)

    def doctor(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        rehash: bool = False,
        backbone: str | None = None,
    ) -> Diagnosis:
        """Look at what the bank runs on: disk, locks, schema, backbone, packages.

        Args:
            environment: variables to show, such as ``os.environ``; secrets are hidden.
            rehash: hash the backbone's files, whatever is remembered of them.
            backbone: where the backbone is now, if it has moved.
        """
        from expertbank.workflows.keeping.doctor import diagnose

        home = self._workspace.home
        return diagnose(home, environment or {}, rehash=rehash, backbone=backbone)

    def backup(self, target: str | Path) -> Path:
        """Write a consistent copy of the database while others may use it.

        Raises:
            ExistsError: ``target`` exists.
            InputError: the bank is in a database, whose server has its own tools.
        """
        return self._workspace.registry.backup(given_path(target, "the file to write"))

    def restore(
        self, source: str | Path, *, dry_run: bool = False, progress: ProgressCallback = no_progress
    ) -> Restored:
        """Put a backup in the place of the present database, which is kept beside it.

        Args:
            source: the backup.
            dry_run: only check it.
            progress: called as files are rehashed.

        Raises:
            NotFoundError: no such file.
            ReadOnlyError: the bank was opened for reading only.
            InputError: the bank is in a database, whose server has its own tools.
            SchemaTooNewError: a newer expertbank wrote it.
            IntegrityError: not a sound registry, or it names files that are gone.
        """
        from expertbank.workflows.keeping.restore import restore

        if not dry_run:
            self._workspace.require_writable()
        wait = self._workspace.lock.wait
        home = folder_of(self._workspace.home, "restore", RESTORE_INSTEAD)
        path = given_path(source, "the backup")
        return restore(home, path, dry_run=dry_run, lock_wait=wait, progress=progress)

    def copy_to(
        self,
        target: str | Path,
        *,
        store: str | None = None,
        cache: str | Path | None = None,
        progress: ProgressCallback = no_progress,
    ) -> Copied:
        """Copy the bank to another place, or bring a copy up to date that nobody wrote to.

        Args:
            target: a folder, or the URL of a PostgreSQL database.
            store: URL of the copy's store; a folder needs none.
            cache: as of ``open``.
            progress: called as files and rows come over.

        Raises:
            InputError: both are one place, or the target has no store.
            ExistsError: the target holds another bank, or this one, which went on there.
            IntegrityError: a file is not what its digest says; nothing is half-copied.
            LockedError: others kept one of them for too long.
        """
        from expertbank.workflows.keeping.copying import copy_bank

        return copy_bank(
            self._workspace.home,
            home_at(target, None if cache is None else given_path(cache, "the cache folder")),
            store=store,
            lock_wait=self._workspace.lock.wait,
            progress=progress,
        )

    def backbone(self) -> BackboneRecord | None:
        """The recorded backbone and feature spec."""
        return self._workspace.registry.backbone()

    def tasks(self) -> tuple[TaskRecord, ...]:
        """Tasks of the bank by name."""
        return self._workspace.registry.tasks()

    def experts(self, task: str | None = None) -> tuple[ExpertRecord, ...]:
        """Experts, all versions."""
        return self._workspace.registry.experts(task)

    def routers(self) -> tuple[RouterRecord, ...]:
        """Routers by version."""
        return self._workspace.registry.routers()

    def status(self) -> Standing:
        """How the bank stands, and what to do next: experts that no router knows, and the like."""
        return standing(str(self._workspace.home), self.registry)

    def map(
        self,
        router: str | int = "active",
        tasks: str | Sequence[str] = (),
        *,
        rows: RowLike | Iterable[RowLike | InputError] | None = None,
        progress: ProgressCallback = no_progress,
    ) -> BankMap:
        """Where the tasks of a router lie beside each other, and which lie close.

        Args:
            router: by version, ``router@N`` or alias.
            tasks: those to show; default all that the router knows.
            rows: rows to place among them, as for ``predict``; the active router says which of
                them are unknown.
            progress: called as batches finish.

        Raises:
            NotFoundError: no such router, or a task that it does not know.
            InputError: fewer than two tasks, or more than a map can hold; or rows that cannot be
                read or answered, and rows for another router than the active one.
        """
        from expertbank.workflows.proving.bank_map import bank_map, map_with_rows

        tasks = texts(tasks, "tasks")
        if rows is None:
            return bank_map(self._workspace, router, tasks)
        if self.registry.router(router) != self.registry.router("active"):
            raise InputError("rows are placed by the active router; leave the other one out")
        from expertbank.data import as_rows

        return map_with_rows(self._workspace, self.predictor(), as_rows(rows), tasks, progress)

    def _repr_html_(self) -> str:
        rows = [
            (one.id, one.kind, ", ".join(one.labels), one.created_at[:19], one.digest)
            for one in self.registry.members()
        ]
        columns = ("expert", "kind", "labels", "added (UTC)", "digest")
        return notebook.table("Bank", columns, rows, self.status().facts)

    def history(self) -> tuple[HistoryEvent, ...]:
        """What happened, in order."""
        return self._workspace.registry.history()

    @property
    def registry(self) -> Registry:
        """The registry, for queries that have no method here."""
        return self._workspace.registry
