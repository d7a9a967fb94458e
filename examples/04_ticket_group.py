"""A support desk's bank: topic and urgency of one ticket (a group), and one task beside them.

The two tasks read the same texts, so no router could tell them apart; as a group, the router
picks the group and both experts answer.

Run it with: python examples/04_ticket_group.py [FOLDER]. Needs the extra `offline`.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from expertbank import Bank, TrainConfig, task_spec

OPENINGS = ("Hello,", "Hi team,", "Good morning,", "To whom it may concern:", "Hey,")
TICKETS = (
    ("my invoice shows the wrong amount", "billing", "normal"),
    ("I was charged twice and my rent bounced, fix it today", "billing", "urgent"),
    ("please send the receipt again when you have time", "billing", "normal"),
    ("the refund never came and I need it immediately", "billing", "urgent"),
    ("I would like to change the mail address of my account", "login", "normal"),
    ("nobody in our office can sign in, we cannot work", "login", "urgent"),
    ("how do I turn on two-factor codes", "login", "normal"),
    ("my account was broken into, lock it right now", "login", "urgent"),
    ("where can I see the tracking number of my parcel", "shipping", "normal"),
    ("the medicine in the parcel is needed tonight and it is lost", "shipping", "urgent"),
    ("the box had a small dent, just so you know", "shipping", "normal"),
    ("the courier is at the wrong house, stop him now", "shipping", "urgent"),
)
REVIEWS = (
    ("The plot drags and the actors look bored", "negative"),
    ("A warm and funny film that I will see again", "positive"),
    ("Two hours of noise without an idea", "negative"),
    ("Beautifully shot, with a brilliant lead", "positive"),
    ("The jokes fall flat from start to end", "negative"),
    ("One of the best endings of the year", "positive"),
)
SCENES = ("in my view", "as everyone says", "to be honest", "after the second time", "all in all")


def write_tables(folder: Path) -> None:
    """Sixty tickets with topic and urgency, thirty reviews with a sentiment."""
    with (folder / "tickets.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "topic", "urgency"])
        writer.writerows([f"{o} {text}.", a, b] for text, a, b in TICKETS for o in OPENINGS)
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"{text}, {s}.", label] for text, label in REVIEWS for s in SCENES)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(folder)
    train = TrainConfig(epochs=3)
    with Bank.open(folder / "bank") as bank:
        bank.init(max_length=32)
        for task in ("topic", "urgency"):
            spec = task_spec(task, text_column="ticket", label_column=task)
            bank.add(spec, data=folder / "tickets.csv", group="tickets", train=train)
        bank.add("reviews", data=folder / "reviews.csv", train=train)
        router = bank.retrain_router()
        print("routed to its own task or group:", router.metrics["per_task"])

        texts = ["my parcel is lost and I need it today", "a dull film, all in all"]
        for text, answer in zip(texts, bank.predict(texts), strict=True):
            each = answer.answers or (answer,)
            print(text, "->", ", ".join(f"{one.task}: {one.label}" for one in each))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".quickstart/group"))
