"""The forgetting report as callers get it: its findings, their JSON document and their page."""

from __future__ import annotations

from typing import Any

from expertbank.plain import plain
from expertbank.reports.columns import as_json
from expertbank.reports.findings import Findings
from expertbank.reports.notebook import framed


class ForgettingReport(Findings):
    """Findings that show themselves; what renders them knows the findings alone."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from expertbank.reports.html import forgetting_page  # Jinja2, as ``notebook.table`` says

        return framed("Forgetting report", forgetting_page(self))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of ``forgetting-report``."""
        return {
            "router": self.router,
            "from": self.start,
            "to": self.router,
            "margin": self.margin,
            "verdict": {
                "expert": "identical" if self.weights_unchanged else "changed",
                "routed": self.verdict,
            },
            "tasks": [as_json(task) for task in self.tasks],
            "average_accuracy": self.average_accuracy,
            "backward_transfer": self.backward_transfer,
            "forgetting": self.forgetting,
            "routing_regret": self.routing_regret,
            "weights_unchanged": self.weights_unchanged,
            "matrix": plain(self.matrix),
            "routers": list(self.routers),
            "regrouped_routers": list(self.regrouped),
            "uncounted_routers": list(self.uncounted),
            "matrix_as_served": plain(self.as_served),
            "confusion": plain(self.confusion),
            "lineage": plain(self.lineage),
            "verification": self.verification,
            "map": self.bank_map.to_dict() if self.bank_map else None,
        }
