"""What the page shows, worked out: an answer in words and bars. Nothing here knows HTTP or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from expertbank.reports.figures import share
from expertbank.serving.answered import Answered
from expertbank.texts import printable
from expertbank.workflows.answering.prediction import Prediction

_TONES = {True: "unknown", False: "known", None: "asked"}
AT_ONCE = 8
"""Labels that are seen at once; the others are folded away."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a person put into the form.

    Attributes:
        text: the text.
        text_pair: the second one; empty for none.
        choices: one a line.
        model: ``auto``, or the task to ask.
        abstain: whether a text like no task is to stay without an answer.
    """

    text: str = ""
    text_pair: str = ""
    choices: str = ""
    model: str = "auto"
    abstain: bool = False

    @property
    def values(self) -> dict[str, Any]:
        """A row's values; what was left empty, and blank lines among choices, are left out."""
        choices = [line.strip() for line in self.choices.split("\n") if line.strip()]
        found = {"text": self.text, "text_pair": self.text_pair, "choices": choices}
        return {name: value for name, value in found.items() if value or name == "text"}


@dataclass(frozen=True, slots=True)
class Bar:
    """A probability under its name.

    Attributes:
        name: of the task, label or choice.
        value: 0 to 1.
        chosen: whether it is what was chosen, or holds.
        threshold: from which value on it holds; ``None`` where the highest is chosen.
    """

    name: str
    value: float
    chosen: bool
    threshold: float | None = None

    @property
    def figure(self) -> str:
        """The value as it is written."""
        return share(self.value)

    @property
    def width(self) -> str:
        """Its length, of 100."""
        return f"{100 * min(max(self.value, 0.0), 1.0):.2f}"


@dataclass(frozen=True, slots=True)
class Said:
    """One expert's answer.

    Attributes:
        task: the task.
        expert: ``task@version``.
        text: the answer as a person reads it.
        bars: probabilities, the highest first; choices in the order given.
        folded: those that are not seen at once.
        holds: whether each label may hold by itself.
    """

    task: str
    expert: str
    text: str
    bars: tuple[Bar, ...]
    folded: tuple[Bar, ...]
    holds: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer, to be looked at.

    Attributes:
        tone: ``known``, ``unknown``, or ``asked`` where nobody judged that.
        name: where the text went, in a few words.
        headline: the answer.
        why: sentences that say why it went there.
        near: the router's probability of the tasks that came closest; empty for a named one.
        answers: of the expert, or of every expert of a group; none where it abstained.
        facts: names and values: what it came from and how long it took.
    """

    tone: str
    name: str
    headline: str
    why: str
    near: tuple[Bar, ...]
    answers: tuple[Said, ...]
    facts: tuple[tuple[str, str], ...]


def shown(answered: Answered, given: Given) -> Shown:
    """The answer to one row.

    Args:
        answered: what the server gave; its first prediction is shown.
        given: what was asked.
    """
    prediction = answered.predictions[0]
    answers = prediction.answers or (prediction,)
    went_to = " + ".join(one.task for one in answers)
    named = given.model != "auto"
    return Shown(
        tone=_TONES[prediction.unknown],
        name=f"{'Asked' if named else 'Sent to'} {printable(went_to)}",
        headline=", ".join(printable(one.text) for one in answers) or "nothing",
        why=_why(prediction, went_to, named),
        near=tuple(
            Bar(
                printable(" + ".join(one.tasks)),
                one.probability,
                any(answer.task in one.tasks for answer in answers),
            )
            for one in prediction.near
        ),
        answers=() if prediction.abstained else tuple(_said(one) for one in answers),
        facts=_facts(answered, [one.expert for one in answers]),
    )


def _why(prediction: Prediction, went_to: str, named: bool) -> str:
    if named:
        return "You named the task, so no router chose, and whether the text fits was not judged."
    sent = f"The router gave {printable(went_to)} {share(prediction.confidence)} of its probability"
    if prediction.abstained:
        return f"{sent}, but the text is like no task, and you asked for no answer then."
    if prediction.unknown:
        rare = _rare(prediction)
        return (
            f"{sent}. But the text is like no task that may answer it{rare}: do not rely on this."
        )
    if prediction.unknown is None:
        return f"{sent}. Whether the text is like any task, this router cannot tell."
    return f"{sent}, and the text is like those it knows{_rare(prediction)}."


def _rare(prediction: Prediction) -> str:
    if prediction.unknown_p_value is None:
        return ""
    lengths = "" if prediction.tokens == 0 else f" of {prediction.length_bin}"
    return f" ({share(prediction.unknown_p_value)} of known texts{lengths} look as strange)"


def _said(one: Prediction) -> Said:
    by_choice = one.choice is not None
    bars = [
        Bar(
            printable(name),
            value,
            place == one.choice
            if by_choice
            else name in one.labels
            if one.labels is not None
            else name == one.label,
            (one.thresholds or {}).get(name),
        )
        for place, (name, value) in enumerate(one.scores.items())
    ]
    if not by_choice:
        bars.sort(key=lambda bar: -bar.value)
    fold = AT_ONCE if len(bars) > AT_ONCE + 2 else len(bars)
    return Said(
        printable(one.task),
        printable(one.expert),
        printable(one.text),
        tuple(bars[:fold]),
        tuple(bars[fold:]),
        one.labels is not None,
    )


def _facts(answered: Answered, experts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    state = answered.state
    router = "none" if state.router_version is None else f"router@{state.router_version}"
    return (
        ("expert" if len(experts) == 1 else "experts", ", ".join(map(printable, experts))),
        ("router", f"{router} {(state.router_digest or '')[:12]}".strip()),
        ("waited", milliseconds(answered.queued_seconds)),
        ("computed", milliseconds(answered.inference_seconds)),
    )


def milliseconds(seconds: float | None) -> str:
    """A time as people read it, or a dash."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.1f} ms" if seconds < 0.1 else f"{1000 * seconds:,.0f} ms"
