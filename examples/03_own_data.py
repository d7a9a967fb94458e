"""A task of one's own: write a small CSV, add it, look at its expert.

Run it with: python examples/03_own_data.py [FOLDER]. Needs the extra `offline`.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from expertbank import Bank, TrainConfig, task_spec

OPENINGS = ("Hello,", "Hi team,", "Good morning,", "To whom it may concern:", "Hey,")
TICKETS = {
    "billing": (
        "my invoice shows the wrong amount",
        "I was charged twice this month",
        "please refund the last payment",
        "the receipt is missing the tax number",
    ),
    "login": (
        "I cannot sign in to my account",
        "the password reset mail never comes",
        "two-factor codes are rejected",
        "my account is locked after an update",
    ),
    "shipping": (
        "the parcel has not arrived",
        "the tracking page shows nothing",
        "my order went to the old address",
        "the box was damaged in transit",
    ),
}


def write_tickets(path: Path) -> None:
    """Sixty short tickets with a topic each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "topic"])
        for topic, complaints in TICKETS.items():
            for complaint in complaints:
                writer.writerows([f"{opening} {complaint}.", topic] for opening in OPENINGS)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_tickets(folder / "tickets.csv")
    spec = task_spec("tickets", text_column="ticket", label_column="topic")
    with Bank.open(folder / "bank") as bank:
        bank.init(max_length=32)
        added = bank.add(spec, data=folder / "tickets.csv", train=TrainConfig(epochs=3))
        print(added.expert.labels, f"accuracy {added.metrics['accuracy']:.3f}")
        bank.retrain_router()
        (answer,) = bank.predict(["where is my parcel? it should have come on Monday"])
        print(answer.label, f"{answer.scores[answer.label]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".quickstart/tickets"))
