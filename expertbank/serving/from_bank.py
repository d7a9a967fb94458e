"""States of a bank: the active router, and every version of the experts of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from expertbank.bank import Bank
from expertbank.config import canonical_json, sha256_text
from expertbank.errors import StaleError
from expertbank.serving.catalogue import KnownTask, state_of
from expertbank.serving.live import ServingState
from expertbank.workflows.active_router import active_router, groups_of
from expertbank.workflows.answering.decision import Answerer

_TRIES = 5


class BankSource:
    """States of an open bank, which stays the caller's to close.

    Args:
        bank: the bank; may be open read-only.
    """

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.report = partial(bank.forgetting_report, with_map=True)

    def load(self, earlier: ServingState | None) -> ServingState:
        """See ``Source.load``.

        Raises:
            NotFoundError: the bank has no live expert.
            IntegrityError: the backbone or the router's file is not the bank's, or the file of an
                expert that writes is damaged.
            StaleError: the bank changed all the while.
        """
        for _ in range(_TRIES):
            fingerprint = self._fingerprint()
            state = self._read(earlier, fingerprint)
            # Read in several steps: a change between two of them would mix an old with a new bank.
            if state is not None and self._fingerprint() == fingerprint:
                return state
        raise StaleError("the bank kept changing while it was read; it is tried again")

    def changed(self, served: ServingState) -> bool:
        """See ``Source.changed``; looks at the active router and at the tasks' newest experts."""
        return self._fingerprint() != served.fingerprint

    def _fingerprint(self) -> str:
        """Digest of all that decides what the bank answers.

        Names and counts alone would not do: a restored bank gives them out again.
        """
        registry = self.bank.registry
        router, backbone = active_router(registry), registry.backbone()
        facts = [
            None if backbone is None else backbone.digest,
            None if router is None else [router.version, router.digest],
            registry.generation(),
            [[expert.id, expert.digest] for expert in registry.members()],
        ]
        return sha256_text(canonical_json(facts))

    def _read(self, earlier: ServingState | None, fingerprint: str) -> ServingState | None:
        """The state, or ``None`` where the router changed under the reader's hands."""
        live, router = self.bank.predictor(), active_router(self.bank.registry)
        if live.router_digest != (None if router is None else router.digest):
            return None
        registry = self.bank.registry
        newest = {expert.task: expert.id for expert in registry.members()}
        every: dict[str, dict[int, Answerer]] = {task: {} for task in newest}
        purged = set(registry.purged_experts())
        for expert in registry.experts():  # by task and version
            if expert.task in every and expert.id not in purged:
                every[expert.task][expert.version] = Answerer.of(expert)
        groups, metrics = groups_of(registry, router), self._metrics()
        known = [
            KnownTask(own, groups.get(task), metrics.get(newest[task], {}))
            for task, own in every.items()
        ]
        version = None if router is None else router.version
        return state_of(earlier, live, known, version, live.router_digest, fingerprint)

    def _metrics(self) -> dict[str, Mapping[str, Any]]:
        """What every expert's stored rows showed with the expert named, by expert."""
        return {
            one.expert_id: one.metrics
            for one in self.bank.registry.evaluations(router_version="oracle")
        }
