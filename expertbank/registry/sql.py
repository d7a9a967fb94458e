"""A ``Registry`` over an SQLAlchemy engine: each method is one question or one promise."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from expertbank.registry import commits, forgetting, history, purging, queries
from expertbank.registry.session import read, write

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="SqlRegistry")


def _asks(
    question: Callable[Concatenate[Session, P], T],
) -> Callable[Concatenate[SqlRegistry, P], T]:
    """A method that answers from one consistent view."""

    @wraps(question)
    def method(self: SqlRegistry, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._ask(lambda session: question(session, *args, **kwargs))

    return method


def _keeps(
    promise: Callable[Concatenate[Session, P], T],
) -> Callable[Concatenate[SqlRegistry, P], T]:
    """A method that is one write transaction."""

    @wraps(promise)
    def method(self: SqlRegistry, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._keep(lambda session: promise(session, *args, **kwargs))

    return method


class SqlRegistry:
    """What is the same for every database; each has a subclass with its own care of it.

    Every call takes a connection of its own. ``Registry`` says what the methods promise.
    """

    def __init__(self, engine: Engine, *, read_only: bool) -> None:
        self.engine = engine
        self.read_only = read_only

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def where(self) -> str:
        """The database in words, without secrets."""
        raise NotImplementedError

    def thaw(self, connection: Connection) -> None:
        """Let frozen rows change until ``freeze``, in a transaction that the caller holds."""
        raise NotImplementedError

    def freeze(self, connection: Connection) -> None:
        """Put back what refuses changes; rows may have come in with numbers of their own."""
        raise NotImplementedError

    def transact(self, promise: Callable[[Session], T]) -> T:
        """One write transaction; what it does may be done again from its beginning."""
        return self._keep(promise)

    def _ask(self, question: Callable[[Session], T]) -> T:
        with read(self.engine) as session:
            return question(session)

    def _keep(self, promise: Callable[[Session], T]) -> T:
        with write(self.engine) as session:
            return promise(session)

    bank_id = _asks(queries.bank_id)
    backbone = _asks(queries.backbone)
    tasks = _asks(queries.tasks)
    task = _asks(queries.task)
    tasks_as_read = _asks(queries.tasks_as_read)
    experts = _asks(queries.experts)
    expert = _asks(queries.expert)
    members = _asks(queries.members)
    member = _asks(queries.member)
    member_tasks = _asks(queries.member_tasks)
    has_members = _asks(queries.has_members)
    next_version = _asks(queries.next_version)
    generation = _asks(queries.generation)
    feature_set = _asks(queries.feature_set)
    feature_sets = _asks(queries.feature_sets)
    statistics = _asks(queries.statistics)
    evaluations = _asks(queries.evaluations)
    routers = _asks(queries.routers)
    router = _asks(queries.router)
    aliases = _asks(queries.aliases)
    alias_events = _asks(queries.alias_events)
    run = _asks(queries.run)
    artifacts = _asks(queries.artifacts)
    purgeable = _asks(purging.purgeable)
    purged_experts = _asks(purging.purged_experts)
    forgettable = _asks(forgetting.forgettable)
    history = _asks(history.history)

    set_backbone = _keeps(commits.set_backbone)
    complete_backbone = _keeps(commits.complete_backbone)
    remove_task = _keeps(commits.remove_task)
    set_group = _keeps(commits.set_group)
    commit_expert = _keeps(commits.commit_expert)
    add_statistics = _keeps(commits.add_statistics)
    commit_router = _keeps(commits.commit_router)
    set_alias = _keeps(commits.set_alias)
    commit_purge = _keeps(purging.commit_purge)
    commit_forgetting = _keeps(forgetting.commit_forgetting)
    commit_export = _keeps(commits.commit_export)
