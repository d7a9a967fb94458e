"""Fitting the router from exact sums: no text, no backbone, no expert weight is read.

Top-1 followed by a softmax gives the router no gradient from the task loss, so fitting it is
plain task classification on frozen features; caching them once is equivalent to the paper's
joint passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields

import torch
from torch import Tensor

from expertbank.backbones.forks import computing
from expertbank.errors import InputError
from expertbank.records import RowShape
from expertbank.routing.beside import Beside
from expertbank.routing.calibration import best_temperature, rows_a_column
from expertbank.routing.columns import Entry, by_column, competing, members
from expertbank.routing.config import RouterConfig
from expertbank.routing.examples import Block, Examples, Rows, together
from expertbank.routing.gates import Gate, fitted_from_moments
from expertbank.routing.grid import STEP, Grid
from expertbank.routing.router import Router, not_finite
from expertbank.routing.statistics import sits_out
from expertbank.routing.sums import SPANS, Sums, brought
from expertbank.routing.sureness import unasked
from expertbank.routing.threads import one_thread
from expertbank.routing.unknown import (
    Answered,
    Asked,
    UnknownModel,
    blocks_of,
    calibrated,
    fit_unknown,
    placed,
)

RowsOf = Callable[[str], tuple[Tensor, Sequence[RowShape]]]
"""By expert all its training rows ``[rows, dimension]``, and what each brings."""


def by_digest(entries: Sequence[Entry], statistics: Mapping[str, str]) -> list[list[str]]:
    """By column the digests of its experts' statistics, which ``statistics`` gives by expert."""
    return [[statistics[one.id] for one in column] for column in by_column(entries)]


@computing()
def fit_sums(
    entries: Sequence[Entry],
    statistics: Mapping[str, str],
    sums: Sums,
    config: RouterConfig,
    feature_spec_digest: str,
    rows_of: RowsOf,
    blocks: int | None = None,
) -> Router:
    """Solve a gate from sums; set temperature and threshold by the rows that sat out of them.

    Closed forms give the same bytes whatever the order of the members and the number of threads.

    Args:
        entries: every member, at least one.
        statistics: by expert the digest of its statistics.
        sums: of the members' statistics.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
        rows_of: asked only for gates that are fitted on rows.
        blocks: how many parts of one width a feature has, a hidden state pooled in one way each.

    Raises:
        InputError: the gate did not converge under these settings, or as ``rows_of``.
    """
    columns, names = by_column(entries), by_digest(entries, statistics)
    reads = [{shape for name in own for shape in sums.facts[name].reads} for own in names]
    closed = config.gate.fit_moments
    with one_thread() if closed else nullcontext():
        parts = [Block(own, sums.moments([names[c] for c in own])) for own in competing(reads)]
        if closed:
            gate = _solved(config, len(columns), lambda: closed(parts, config.settings))
        else:
            examples = _examples(columns, parts, sums.grid, rows_of)
            gate = _solved(config, len(columns), lambda: config.gate.fit(examples, config.settings))
        held = _held_out(_beside(names, sums, spans=False), reads)
        temperature, unknown = 1.0, None
        if held is not None:
            if len(columns) > 1:
                temperature = best_temperature(gate, held)
            sizes = blocks_of(sums.grid.width, None if sums.grid.projection else blocks)
            unknown = _calibrated(
                *(fit_unknown(together(parts), sizes), config, gate, temperature),
                *(names, sums, reads),
            )
    own = members(columns, {one.id: sums.facts[statistics[one.id]].reads for one in entries})
    return Router(config.kind, own, feature_spec_digest, temperature, gate, unknown, sums.grid)


def _solved(config: RouterConfig, columns: int, solve: Callable[[], Gate]) -> Gate:
    """The gate over so many columns that ``solve`` finds.

    Raises:
        InputError: it finds none, or one that cannot choose.
    """
    try:
        gate = solve()
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch lists it not
        raise _diverged(config, "its equations cannot be solved") from error
    if odd := not_finite(gate.tensors()):
        raise _diverged(config, f"{odd} is not finite")
    found = gate.scores(torch.zeros(2, gate.dimension))
    if found.shape != (2, columns) or found.dtype != torch.float64:
        raise InputError(
            f"the {config.kind} gate is defective: its scores of 2 rows are {list(found.shape)} "
            f"{found.dtype}, and for {columns} columns belong [2, {columns}] torch.float64; choose "
            "another with --kind, and tell its authors"
        )
    return gate


def _diverged(config: RouterConfig, why: str) -> InputError:
    """What to say of a gate that its settings lead nowhere."""
    own = [field.name for field in fields(config.settings)]
    hint = f"give it other settings: --set {' or '.join(own)}" if own else "try another gate"
    return InputError(f"the {config.kind} gate did not converge: {why}; {hint}")


def _examples(
    columns: Sequence[Sequence[Entry]], blocks: Sequence[Block], grid: Grid, rows_of: RowsOf
) -> Examples:
    """The rows that the sums are of, on the grid: those that sat out sit out here too."""
    features, shapes = [], []
    for column in columns:
        parts, brings = [], []
        for one in column:
            rows, own = rows_of(one.id)
            stays = ~sits_out(len(rows))
            parts.append(grid.values(rows)[stays].half())  # so many steps are exact in float16
            brings += [shape for shape, kept in zip(own, stays.tolist(), strict=True) if kept]
        features.append(torch.cat(parts))
        shapes.append(brings)
    return Examples(blocks, features, shapes)


def _calibrated(
    model: UnknownModel,
    config: RouterConfig,
    gate: Gate,
    temperature: float,
    names: Sequence[Sequence[str]],
    sums: Sums,
    reads: Sequence[set[RowShape]],
) -> UnknownModel:
    """The model with what rows that sat out of the sums, and their spans, look like."""
    answered: list[Answered] = []
    whole: list[Tensor] = []
    # A group's experts answer together, and nobody says which of them would be asked.
    alone = [sums.facts[own[0]].sureness if len(own) == 1 else None for own in names]
    for spans in (False, True):
        beside = _beside(names, sums, spans=spans)
        held = _held_out(beside, reads)
        if held is None:
            continue
        scores = gate.scores(held.features)
        if odd := not_finite({"a score": scores}):
            raise _diverged(config, f"{odd} is not finite")
        scores = scores.masked_fill(held.forbidden, float("-inf"))
        confidence, chosen = torch.softmax(scores / temperature, 1).max(1)
        asked = Asked(held.features, scores, confidence, chosen)
        if not spans:
            model = placed(model, asked)
        rows = Beside.joined(beside)
        # Another expert than its own was not asked about a row.
        own = rows.sureness.where(chosen == held.targets, unasked(len(rows)))
        answered.append(Answered(model.strangeness(asked), chosen, rows.tokens, own))
        whole.append(torch.full((len(rows),), not spans))
    parts = ("strangeness", "columns", "tokens", "sureness")
    joined = (torch.cat([getattr(one, part) for one in answered]) for part in parts)
    return calibrated(model, Answered(*joined), torch.cat(whole), alone)


def _held_out(beside: Sequence[Beside], reads: Sequence[set[RowShape]]) -> Rows | None:
    """Rows to calibrate on, by column; ``None`` if there are none."""
    if not any(map(len, beside)):
        return None
    features = [own.steps.float() * STEP for own in beside]
    return Rows.joined(features, [own.shapes for own in beside], reads)


def _beside(names: Sequence[Sequence[str]], sums: Sums, *, spans: bool) -> list[Beside]:
    """By column the rows that sat out, or their spans: as many as the number of columns allows."""
    each, every = rows_a_column(len(names))
    found = []
    for column in names:
        brings = brought(column, each, every)
        most, per = (SPANS * each, SPANS * brings) if spans else (each, brings)
        facts = [sums.facts[name] for name in column]
        rows = [(one.spans if spans else one.rows).first(per) for one in facts]
        found.append(Beside.joined(rows).first(most))
    return found


def needs_rows(config: RouterConfig, without: Sequence[str]) -> InputError:
    """What to say where a gate needs the rows of experts that have statistics only."""
    return InputError(
        f"a {config.kind} gate is trained on features, and of {', '.join(without)} this bank "
        f"keeps statistics only; possible here: {', '.join(fitted_from_moments())}"
    )
