"""After a command that changed experts: the router is refitted, or what is left to do is told.

Its failure does not hide what was done before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expertbank.reports.figures import share

from .ending import described
from .session import Session

if TYPE_CHECKING:
    from expertbank.bank import Bank
    from expertbank.records import ProgressCallback
    from expertbank.workflows.growing.retrain import RouterResult

RETRAIN = "expertbank retrain-router"


@dataclass(frozen=True, slots=True)
class Followed:
    """What came after the change.

    Attributes:
        todo: what is left to do; empty where nothing is.
        router: the router, where it was asked for and fitted.
        error: why there is none; raised once the rest was shown.
    """

    todo: str = ""
    router: RouterResult | None = None
    error: BaseException | None = None

    @property
    def name(self) -> str:
        """The router that is active now, where one was fitted."""
        return f"router@{self.router.router.version}" if self.router is not None else ""

    @property
    def routing(self) -> str:
        """The same, and how well it chooses."""
        accuracy = self.router.metrics["accuracy"] if self.router is not None else None
        known = "" if accuracy is None else f", routing accuracy {share(accuracy)}"
        return f"{self.name} active{known}"

    def beside(self, document: dict[str, Any]) -> dict[str, Any]:
        """A command's document with the router, or why there is none, and what is left to do."""
        told = document | ({"todo": self.todo} if self.todo or "todo" in document else {})
        if self.router is not None:
            told["router"] = self.router.to_dict()
        if self.error is not None:
            code, message = described(self.error)
            told |= {"router": None, "error": {"code": code, "message": message}}
        return told

    def tell(self, session: Session, active: str = "", todo: str = "next") -> None:
        """Once the result was shown, raise the error, or say what is ``active`` or left to do."""
        if self.error is not None:
            session.end_with(self.error)
        if self.router is not None:
            if active:
                session.remark(active)
            tell_router(session, self.router)
        if self.todo:
            session.remark(f"{todo}: {self.todo}")


def tell_router(session: Session, router: RouterResult) -> None:
    """What is particular about a router that was fitted, and what to do about it."""
    for remark in router.remarks:
        session.remark(remark)
    for warning in router.warnings:
        session.remark(f"warning: {warning}")


def follow(
    session: Session, bank: Bank, progress: ProgressCallback, *, retrain: bool, todo: str
) -> Followed:
    """Refit and activate the router where that was asked for, else leave what is ``todo``."""
    if not retrain:
        return Followed(todo)
    session.outcome.todo, before = RETRAIN, len(session.outcome.done)
    try:
        router = bank.retrain_router(progress=progress)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the command raises it)
        if len(session.outcome.done) > before:  # the router is there all the same
            session.outcome.todo = ""
        return Followed(session.outcome.todo, error=error)
    session.outcome.todo = ""
    return Followed(router=router)
