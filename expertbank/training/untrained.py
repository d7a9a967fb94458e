"""An expert that is not trained: an adapter elsewhere answers, and the bank knows its name."""

from __future__ import annotations

from expertbank.backbones.backbone import Backbone
from expertbank.config import NO_ADAPTER
from expertbank.models.expert_file import ExpertFile
from expertbank.training.expert import TrainedExpert
from expertbank.training.job import ExpertJob


def untrained(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
    """The file of an expert without adapter and head, with its labels in it.

    The same labels, feature spec and backbone give the same bytes.

    Args:
        job: of a kind that is answered elsewhere.
        backbone: the frozen model, which is not run.
    """
    file = ExpertFile(
        job.task,
        job.kind,
        job.labels,
        NO_ADAPTER,
        {},
        1.0,
        job.spec.digest,
        backbone.digest,
        {},
        "mean",
    )
    return TrainedExpert(file, 0, 0, 0, 0, 0, None, (), 0.0, 0, 0, 0)
