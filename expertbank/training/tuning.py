"""A search for one task over the few settings that matter, judged on held-out training rows.

The first trial has the user's own settings, so what is chosen is never worse on those rows. Later
ones are proposed by a tree-structured Parzen estimator and ended early where they stay below the
median of those before (Akiba et al., "Optuna", KDD 2019). The same job and seed give the same
trials, also when the search was interrupted: what is kept of a trial is told to the study again.
Needs the extra ``tune``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from expertbank.backbones.backbone import Backbone
from expertbank.config import AdapterConfig, TrainConfig, TuneConfig, canonical_json
from expertbank.errors import MALFORMED, InputError, IntegrityError, TrainingError
from expertbank.kinds import KINDS
from expertbank.plain import plain
from expertbank.process_wide import WhileAny
from expertbank.records import ProgressCallback, ProgressEvent, no_progress
from expertbank.training.expert import train_expert
from expertbank.training.job import ExpertJob, job_digest, rate_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

EXTRA = "pip install 'expertbank[tune]'"
STARTUP, WARM = 4, 1
"""Trials before any is ended early, and epochs of a trial before it can be."""
RATES, HEAD_RATES = (0.2, 4.0), (3e-4, 1e-2)
"""What is tried of the adapter's rate, as shares of that of its kind, and of the head's."""
ALPHAS = (1.0, 16.0)
DECAYS = (0.0, 0.01, 0.1)


@dataclass(frozen=True, slots=True)
class Trial:
    """What one trial gave.

    Attributes:
        settings: what was tried.
        scores: held-out score after each epoch; none where training failed.
        losses: held-out loss after each.
        state: ``complete``, ``pruned`` or ``failed``.
        seconds: time it took.
    """

    settings: Mapping[str, float]
    scores: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    state: str = "complete"
    seconds: float = 0.0

    @property
    def reported(self) -> dict[int, float]:
        """What the study is told after each epoch: the best score so far."""
        return dict(enumerate(accumulate(self.scores, max)))

    @property
    def best(self) -> tuple[float, float]:
        """Best score, and the negative loss at it."""
        both = zip(self.scores, self.losses, strict=True)
        return max(((score, -loss) for score, loss in both), default=(-math.inf, -math.inf))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {**plain(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Tuned:
    """The settings chosen.

    Attributes:
        adapter: the job's, or with another alpha.
        train: the job's, or with other rates and decay.
        facts: what the expert's lineage keeps of the search, as plain JSON.
    """

    adapter: AdapterConfig
    train: TrainConfig
    facts: dict[str, Any]


@dataclass(slots=True)
class _Search:
    """One search under way."""

    job: ExpertJob
    backbone: Backbone
    config: TuneConfig
    progress: ProgressCallback
    trials: list[Trial] = field(default_factory=list)


def tune(
    job: ExpertJob,
    backbone: Backbone,
    config: TuneConfig,
    progress: ProgressCallback = no_progress,
    *,
    resume: bytes | None = None,
    keep: Callable[[bytes], None] | None = None,
) -> Tuned:
    """Search, and choose.

    Args:
        job: what is to be trained; its settings are tried first.
        backbone: the frozen model.
        config: how many trials, and how long.
        progress: called as work goes on.
        resume: what ``keep`` was last given by an interrupted search of the same job.
        keep: takes the trials so far, after each.

    Raises:
        InputError: the extra is missing, or ``resume`` is of another job.
        TrainingError: not one trial could be trained.
    """
    search, identity = _Search(job, backbone, config, progress), job_digest(job, backbone)
    before = _kept(resume, identity) if resume else []
    limit, wished = config.minutes * 60, config.trials or 0
    with _study(job.config.seed) as study:
        while len(search.trials) < wished:
            known = before[len(search.trials)] if len(search.trials) < len(before) else None
            if known is None and sum(one.seconds for one in search.trials) >= limit:
                break
            search.trials.append(_next(search, study, known))
            if known is None and keep is not None:
                done = [one.to_dict() for one in search.trials]
                keep(canonical_json({"format": 1, "job": identity, "trials": done}).encode())
    chosen = max(range(len(search.trials)), key=lambda place: search.trials[place].best)
    best = search.trials[chosen]
    if not best.scores:
        raise TrainingError(
            f"none of {len(search.trials)} trials could be trained; nothing was stored. "
            "Try a smaller alpha (--alpha) or a lower learning rate (--lr)"
        )
    first = search.trials[0]
    facts = {
        "trials": len(search.trials),
        "wished": wished,
        "minutes": config.minutes,
        "pruned": sum(one.state == "pruned" for one in search.trials),
        "chosen": chosen,
        "score": round(best.best[0], 6),
        "score_before": round(first.best[0], 6) if first.scores else None,
        "tried": [one.to_dict() for one in search.trials],
    }
    return Tuned(*_settings(job, best.settings), facts)


def _next(search: _Search, study: Study, known: Trial | None) -> Trial:
    """One trial: run, or taken as it was kept; the study is told either way."""
    import optuna
    from optuna.trial import TrialState, create_trial

    job, space = search.job, _space(search.job)
    if not search.trials:
        settled = replace(job.config, lr=rate_of(job.config, job.adapter))
        own = {name: float(getattr(settled, name)) for name in space if name != "alpha"}
        own["alpha"] = job.adapter.multiplier(job.spec)
        done = known or _run(search, own, lambda epoch, score: False)
        if done.scores and all(_within(space[name], value) for name, value in own.items()):
            study.add_trial(
                create_trial(
                    params=own,
                    distributions=space,
                    value=done.best[0],
                    intermediate_values=done.reported,
                )
            )
        return done
    asked = study.ask(space)

    def pruned(epoch: int, score: float) -> bool:
        asked.report(score, epoch)
        return bool(asked.should_prune())

    done = known or _run(search, asked.params, pruned)
    if known is not None:
        if dict(known.settings) != asked.params:
            raise IntegrityError(
                "the kept search proposes other trials with this version of optuna"
            )
        for epoch, score in known.reported.items():
            asked.report(score, epoch)
    state = TrialState.FAIL if done.state == "failed" else TrialState.COMPLETE
    if done.state == "pruned":
        study.tell(asked, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(asked, done.best[0] if state is TrialState.COMPLETE else None, state=state)
    return done


def _run(
    search: _Search, settings: Mapping[str, float], pruned: Callable[[int, float], bool]
) -> Trial:
    """Train with ``settings`` until the end, or until it is not worth it."""
    adapter, train = _settings(search.job, settings)
    number, wished = len(search.trials) + 1, search.config.trials
    scores: list[float] = []
    losses: list[float] = []
    state, started = "complete", time.monotonic()

    def told(event: ProgressEvent) -> None:
        search.progress(replace(event, stage=f"trial {number}/{wished}: {event.stage}"))

    def watch(epoch: int, score: float, loss: float) -> bool:
        nonlocal state
        # As they are kept: a search that goes on must see the same numbers.
        scores.append(round(score, 6))
        losses.append(round(loss, 6))
        if pruned(epoch, max(scores)):
            state = "pruned"
        return state == "pruned"

    try:
        work = replace(search.job, adapter=adapter, config=train)
        train_expert(work, search.backbone, told, watch=watch)
    except TrainingError:
        state = "failed"
    spent = time.monotonic() - started
    if state == "failed":
        scores, losses = [], []
    return Trial(dict(settings), tuple(scores), tuple(losses), state, spent)


def _settings(job: ExpertJob, chosen: Mapping[str, float]) -> tuple[AdapterConfig, TrainConfig]:
    train: dict[str, Any] = {name: one for name, one in chosen.items() if name != "alpha"}
    return replace(job.adapter, alpha=chosen["alpha"]), replace(job.config, **train)


def _space(job: ExpertJob) -> dict[str, BaseDistribution]:
    """What is searched: all that matters to the job."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    own = rate_of(replace(job.config, lr=None), job.adapter)
    low, high = (own * share for share in RATES)
    rates = {"lr": FloatDistribution(low, high, log=True)}
    if KINDS.get(job.kind).has_head:
        rates["head_lr"] = FloatDistribution(*HEAD_RATES, log=True)
    return {
        **rates,
        "alpha": FloatDistribution(*ALPHAS, log=True),
        "weight_decay": CategoricalDistribution(DECAYS),
    }


def _within(distribution: BaseDistribution, value: float) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


@contextmanager
def _study(seed: int) -> Iterator[Study]:
    """A study that says nothing of itself and draws from its own seed."""
    try:
        import optuna
    except ImportError as error:
        raise InputError(f"--tune needs more packages ({error}); run: {EXTRA}") from error
    with _QUIET:
        yield optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=STARTUP),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARM),
        )


@contextmanager
def _errors_only() -> Iterator[None]:
    import optuna

    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(loud)


_QUIET = WhileAny(_errors_only)


def _kept(data: bytes, identity: str) -> list[Trial]:
    try:
        content = json.loads(data)
        if content["format"] != 1 or content["job"] != identity:
            raise InputError(
                "the interrupted search had other rows, settings, library versions or threads; "
                "repeat its command exactly, or leave --resume out to start anew"
            )
        return [
            Trial(
                {str(name): float(value) for name, value in one["settings"].items()},
                tuple(map(float, one["scores"])),
                tuple(map(float, one["losses"])),
                str(one["state"]),
                float(one["seconds"]),
            )
            for one in content["trials"]
        ]
    except MALFORMED as error:
        raise IntegrityError(f"what was kept of the search is damaged ({error!r})") from error
