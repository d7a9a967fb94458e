"""``--retrain-router``: the step after something was committed. Its failure does not hide that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .ending import described
from .session import Session

if TYPE_CHECKING:
    from expertbank.bank import Bank
    from expertbank.records import ProgressCallback
    from expertbank.workflows.growing.retrain import RouterResult

RETRAIN = "expertbank retrain-router"


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of it.

    Attributes:
        router: the router, where it was asked for and fitted.
        error: why there is none; to be raised once the rest was shown.
        todo: the command that is left to be run; empty where none is.
    """

    router: RouterResult | None = None
    error: BaseException | None = None
    todo: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What a command's document says of it: the router, or why there is none."""
        document: dict[str, Any] = {"todo": self.todo} if self.todo else {}
        if self.router is not None:
            document["router"] = self.router.to_dict()
        if self.error is not None:
            code, message = described(self.error)
            document |= {"router": None, "error": {"code": code, "message": message}}
        return document


def retrain(session: Session, bank: Bank, progress: ProgressCallback) -> Followed:
    """Refit and activate the router after the bank changed."""
    session.outcome.todo, before = RETRAIN, len(session.outcome.done)
    try:
        router = bank.retrain_router(progress=progress)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the command raises it)
        if len(session.outcome.done) > before:  # the router is there all the same
            session.outcome.todo = ""
        return Followed(error=error, todo=session.outcome.todo)
    session.outcome.todo = ""
    return Followed(router)
