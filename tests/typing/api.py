"""What a user's type checker sees of the public interface; checked by a test, never run."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import assert_type

from expertbank import AdapterConfig, Bank, Prediction, Predictor, Row, TrainConfig, load_bundle
from expertbank.records import ExpertRecord, ProgressEvent
from expertbank.reports.forgetting import ForgettingReport


def show(event: ProgressEvent) -> None:
    assert_type(event.done, int)


with Bank.open(Path("bank"), backbone="someone/model") as bank:
    assert_type(bank, Bank)
    added = bank.add(
        "boolq",
        data="file.csv",
        train=TrainConfig(epochs=1),
        adapter=AdapterConfig(tt_rank=4),
        progress=show,
    )
    assert_type(added.expert, ExpertRecord)
    assert_type(bank.retrain_router("noisy-top1").old_texts_read, int)
    bank.retrain_router(7)  # type: ignore[arg-type]
    assert_type(bank.forgetting_report(verify=True), ForgettingReport)
    assert_type(bank.export("folder", tasks=["boolq"]).path, Path)
    assert_type(bank.predict(["text", Row("text", "pair"), {"text": "a"}]), list[Prediction])
    assert_type(bank.evaluate("boolq", "rows.csv").oracle, float | None)
    bank.add("boolq", group="reading", resume=True)
    bank.predict([1])  # type: ignore[list-item]

bundle = load_bundle("folder")
assert_type(bundle, Predictor)
for answer in bundle.predict([Row("text")]):
    assert_type(answer.label, str | float)
    assert_type(answer.confidence, float)
