"""The same job from Python: two tasks, a router, the report, a bundle, answers.

Run it with: python examples/02_python_api.py [FOLDER]. Needs the extra `offline`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from expertbank import Bank, Row, TrainConfig, load_bundle


def main(folder: Path) -> None:
    quick = TrainConfig(limit=300, eval_limit=200, epochs=1)
    with Bank.open(folder / "bank") as bank:
        bank.init(max_length=96)
        for task in ("bbc_news", "privacy_qa"):
            added = bank.add(task, train=quick)
            print(f"{added.expert.id}: accuracy {added.metrics['accuracy']:.3f}")
            bank.retrain_router()

        report = bank.forgetting_report(verify=True)
        print("expert weights unchanged:", report.weights_unchanged)
        for line in report.tasks:
            print(f"{line.task}: {line.routed_at_add:.3f} at first, {line.routed:.3f} now")

        bank.export(folder / "bundle")
        question = Row("do you sell my data", "We never sell personal information.")
        (from_bank,) = bank.predict([question])

    (from_bundle,) = load_bundle(folder / "bundle").predict([question])
    print(from_bundle.task, from_bundle.label, f"{from_bundle.confidence:.2f}")
    assert from_bundle == from_bank


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".quickstart/python"))
