"""expertbank: a bank of frozen TT-LoRA experts that only grows.

Public names are loaded on first use, so importing the package imports neither torch nor SQL.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expertbank.bank import Bank
    from expertbank.config import AdapterConfig, BankConfig, TrainConfig
    from expertbank.errors import ExpertBankError
    from expertbank.records import Row
    from expertbank.routing.config import RouterConfig
    from expertbank.tasks import TaskSpec, task_spec
    from expertbank.workflows.jobs import AddJob, FinishedJob, run_job
    from expertbank.workflows.predict import Prediction, Predictor
    from expertbank.workflows.serve import load_bundle

__all__ = [
    "AdapterConfig",
    "AddJob",
    "Bank",
    "BankConfig",
    "ExpertBankError",
    "FinishedJob",
    "Prediction",
    "Predictor",
    "RouterConfig",
    "Row",
    "TaskSpec",
    "TrainConfig",
    "__version__",
    "load_bundle",
    "run_job",
    "task_spec",
]

_HOMES = {
    "AdapterConfig": "config",
    "AddJob": "workflows.jobs",
    "Bank": "bank",
    "BankConfig": "config",
    "ExpertBankError": "errors",
    "FinishedJob": "workflows.jobs",
    "Prediction": "workflows.predict",
    "Predictor": "workflows.predict",
    "RouterConfig": "routing.config",
    "Row": "records",
    "TaskSpec": "tasks",
    "TrainConfig": "config",
    "load_bundle": "workflows.serve",
    "run_job": "workflows.jobs",
    "task_spec": "tasks",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("expertbank")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
