"""expertbank: a bank of frozen TT-LoRA experts that only grows.

Public names are loaded on first use, so importing the package imports neither torch nor SQL.
"""

from __future__ import annotations

TYPE_CHECKING = False  # ``typing`` itself would take a while to import
if TYPE_CHECKING:
    from typing import Any

    from expertbank.bank import Bank
    from expertbank.config import AdapterConfig, BankConfig, TrainConfig, TuneConfig
    from expertbank.data import TaskSpec, task_spec
    from expertbank.errors import ExpertBankError
    from expertbank.records import Row
    from expertbank.routing.config import RouterConfig
    from expertbank.workflows.answering.answers import Answers
    from expertbank.workflows.answering.predict import Predictor
    from expertbank.workflows.answering.prediction import Prediction
    from expertbank.workflows.answering.serve import load_bundle
    from expertbank.workflows.growing.jobs import AddJob, FinishedJob, run_job
    from expertbank.workflows.growing.on_processes import Processes
    from expertbank.workflows.growing.on_ray import Ray
    from expertbank.workflows.growing.request import AddRequest
    from expertbank.writing import WritingConfig

__all__ = [
    "AdapterConfig",
    "AddJob",
    "AddRequest",
    "Answers",
    "Bank",
    "BankConfig",
    "ExpertBankError",
    "FinishedJob",
    "Prediction",
    "Predictor",
    "Processes",
    "Ray",
    "RouterConfig",
    "Row",
    "TaskSpec",
    "TrainConfig",
    "TuneConfig",
    "WritingConfig",
    "__version__",
    "load_bundle",
    "run_job",
    "task_spec",
]

_HOMES = {
    "AdapterConfig": "config",
    "AddJob": "workflows.growing.jobs",
    "AddRequest": "workflows.growing.request",
    "Answers": "workflows.answering.answers",
    "Bank": "bank",
    "BankConfig": "config",
    "ExpertBankError": "errors",
    "FinishedJob": "workflows.growing.jobs",
    "Prediction": "workflows.answering.prediction",
    "Predictor": "workflows.answering.predict",
    "Processes": "workflows.growing.on_processes",
    "Ray": "workflows.growing.on_ray",
    "RouterConfig": "routing.config",
    "Row": "records",
    "TaskSpec": "data",
    "TrainConfig": "config",
    "TuneConfig": "config",
    "WritingConfig": "writing",
    "load_bundle": "workflows.answering.serve",
    "run_job": "workflows.growing.jobs",
    "task_spec": "data",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("expertbank")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
