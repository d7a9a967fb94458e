"""What a user's type checker sees of the public interface; checked by a test, never run."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import assert_type

from expertbank import (
    AdapterConfig,
    AddJob,
    Answers,
    Bank,
    BankConfig,
    FinishedJob,
    Predictor,
    Row,
    TrainConfig,
    load_bundle,
    run_job,
)
from expertbank.records import ExpertRecord, ProgressEvent
from expertbank.reports.forgetting import ForgettingReport


def show(event: ProgressEvent) -> None:
    assert_type(event.done, int)


with Bank.open(Path("bank"), backbone="someone/model") as bank:
    assert_type(bank, Bank)
    bank.init(max_length=96, keep="stats")
    bank.init(BankConfig(route_layer=0))
    bank.init(max_lenght=96)  # type: ignore[call-arg]
    bank.init(dtype="float8")  # type: ignore[arg-type]
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
    assert_type(bank.predict(["text", Row("text", "pair"), {"text": "a"}]), Answers)
    assert_type(bank.evaluate("boolq", "rows.csv").oracle, float | None)
    unknown = bank.unknowns(["text", Row("text", "pair")], groups=3, out="next.jsonl")
    assert_type(unknown.groups[0].nearest[0].share, float)
    bank.add("boolq", group="reading", resume=True)
    assert_type(bank.group("reading", ["boolq"], dry_run=True).todo, str)
    assert_type(bank.ungroup("boolq").already, tuple[str, ...])
    bank.add("boolq", bank=BankConfig(keep="stats"), dtype="bfloat16")
    bank.add("boolq", route_layer="one")  # type: ignore[arg-type]
    job = bank.prepare("boolq", data="file.csv", max_length=96)
    assert_type(job, AddJob)
    assert_type(run_job(job, device="cpu"), FinishedJob)
    assert_type(bank.commit(run_job(job)).expert, ExpertRecord)
    bank.predict([1])  # type: ignore[list-item]

bundle = load_bundle("folder")
assert_type(bundle, Predictor)
for answer in bundle.predict([Row("text")]):
    assert_type(answer.label, str | float | None)
    assert_type(answer.confidence, float)
