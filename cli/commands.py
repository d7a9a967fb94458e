"""Which commands there are, and where; none of them is imported here."""

from __future__ import annotations

COMMANDS = {
    "init": "experts.init",
    "add": "experts.add",
    "retrain-router": "routing.retrain_router",
    "forgetting-report": "routing.forgetting_report",
    "export": "shipping.export",
    "predict": "predicting.predict",
    "evaluate": "evaluating.evaluate",
    "unknowns": "unknown.unknowns",
    "serve": "serving.serve",
    "status": "status.status",
    "map": "mapping.bank_map",
    "list": "browse.list_experts",
    "show": "showing.show",
    "history": "browse.history",
    "alias": "routing.alias",
    "import": "importing.import_experts",
    "verify": "upkeep.verify",
    "doctor": "diagnosing.doctor",
    "group": "grouping.group",
    "remove": "collecting.remove",
    "gc": "collecting.gc",
    "tasks": "tasks.tasks",
    "db": "upkeep.db",
}
"""By name the module and what of it is the command."""
