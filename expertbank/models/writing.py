"""Writing answers: from where a pass over prompts ended, token by token, all rows together.

Rows of one batch may have different experts, templates, stop texts and ways to sample. Each keeps
the expert that was chosen at its prompt; a row that has ended takes no further part. Nothing is
drawn from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, inf, log1p
from typing import Any, Literal

import torch
from torch import Tensor, nn

from expertbank.adapters import hooks
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.language import LanguageHead
from expertbank.backbones.running import step_backbone
from expertbank.writing import GREEDY, Sampling, Writing, end_of

FIGURES = ("first", "other", "answer", "lead")
"""What stands for the logits of a written answer: the log-probability of its first token, that of
any other in its place, that of the whole answer, and the least lead of a token taken over the next
best, in logits."""
LEAST = -46.0
"""Log-probabilities below this are this; none is infinite."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer shows in place of a character of which a token is still to come."""

Adapted = Callable[[Sequence[int]], Mapping[nn.Module, hooks.Update]]
"""From rows of the pass to what the projections add for them."""


@dataclass(frozen=True, slots=True)
class Written:
    """One answer.

    Attributes:
        text: what was written.
        tokens: how many tokens were taken, the one that ended it included.
        finish: whether it came to its end, or the tokens did.
        figures: see ``FIGURES``.
    """

    text: str
    tokens: int
    finish: Literal["stop", "length"]
    figures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What callers of a pass want of the answers that are written in it.

    Attributes:
        sampling: from a row's position to what is wanted of its answer.
        told: takes a row's position and its answer so far, after each token: what of it no
            further one can take back. False ends it.
        wanted: asked for a row's position after each token; false ends its answer.
    """

    sampling: Callable[[int], Sampling] = lambda row: GREEDY
    told: Callable[[int, str], bool] | None = None
    wanted: Callable[[int], bool] = lambda row: True


@dataclass(frozen=True, slots=True)
class Prompted:
    """Where a pass over prompts ended, one row a prompt, padded on the left.

    Attributes:
        rows: positions of the rows.
        states: ``[rows, hidden]`` last hidden states of the last token.
        mask: ``[rows, tokens]``.
        cache: keys and values of the pass, as transformers keeps them.
    """

    rows: tuple[int, ...]
    states: Tensor
    mask: Tensor
    cache: Any


class _Answer:
    """One answer while it is written."""

    def __init__(
        self, text_of: Callable[[list[int]], str], forced: list[int], ends: frozenset[int]
    ) -> None:
        self.text_of = text_of
        self.forced = forced
        self.ends = ends
        self.tokens: list[int] = []
        self.text = ""
        self.read = self.looked_at = 0
        self.finish: Literal["stop", "length"] | None = None
        self.against = inf
        self.total = 0.0
        self.lead = inf

    def take(self, token: int, against: float, lead: float) -> None:
        """Note a token, the log-odds against it, and its lead over the next best."""
        if not self.tokens:
            self.against = against
        self.total += _likelihood(against)
        self.lead = min(self.lead, lead)
        self.tokens.append(token)

    def look(self, most: int, stops: Sequence[str], told: Callable[[str], bool] | None) -> None:
        """Whether it has ended, by its last token."""
        ended = self.tokens[-1] in self.ends
        if ended:
            self.finish = "stop"
        elif len(self.tokens) >= most:
            self.finish = "length"
        if stops or told or self.finish:
            self.take_in(self.tokens[:-1] if ended else self.tokens)
            cut = min((at for at in map(self.text.find, stops) if at >= 0), default=-1)
            if cut >= 0:
                self.text, self.finish = self.text[:cut], "stop"
        if told and not told(self.settled(stops)) and not self.finish:
            self.finish = "length"

    def take_in(self, tokens: list[int]) -> None:
        """Make of tokens the text, as far as its characters are whole; it only ever grows.

        A decoder that falls back to bytes spoils a whole run of characters by one that is
        unfinished, so the text ends at the last token that finished one.
        """
        whole = self.text_of(tokens)
        first = self.looked_at + 1 if UNFINISHED in whole else len(tokens)
        for size in range(first, len(tokens) + 1):
            text = whole if size == len(tokens) else self.text_of(tokens[:size])
            if text.endswith(UNFINISHED):
                continue
            if not text.startswith(self.text):  # bytes that are no character came after it
                text = self.text + self.text_of(tokens[self.read : size])
            self.text, self.read = text, size
        self.looked_at = len(tokens)

    def settled(self, stops: Sequence[str]) -> str:
        """What of the text no further token can take back."""
        if self.finish:
            return self.text
        begun = (
            size
            for stop in stops
            for size in range(min(len(stop) - 1, len(self.text)), 0, -1)
            if self.text.endswith(stop[:size])
        )
        return self.text[: len(self.text) - max(begun, default=0)]

    def written(self) -> Written:
        assert self.finish is not None
        first, other = _likelihood(self.against), _likelihood(-self.against)
        total = self.total if self.tokens else LEAST
        figures = (
            *(max(one, LEAST) for one in (first, other, total)),
            min(self.lead, -LEAST),
        )
        return Written(self.text, len(self.tokens), self.finish, figures)


class Writer:
    """Writes with one backbone. Safe for several threads: it keeps nothing of a call.

    Args:
        backbone: a decoder.
        language: its head.
    """

    def __init__(self, backbone: Backbone, language: LanguageHead) -> None:
        self._backbone = backbone
        self._language = language
        self._end = end_of(backbone.tokenizer)
        self._special = special_tokens(backbone.tokenizer)
        self._longest = backbone.longest_sequence

    def write(
        self,
        prompted: Prompted,
        writings: Sequence[Writing],
        adapted: Adapted,
        options: WriteOptions,
    ) -> list[Written]:
        """One answer a row.

        Args:
            prompted: where the pass over the prompts ended; its cache is used up.
            writings: one a row.
            adapted: asked for rows by their place here.
            options: what callers want.

        Raises:
            UnsupportedModelError: the backbone ran without some of its hooks.
        """
        samplings = [options.sampling(row) for row in prompted.rows]
        answers = [
            self._begun(writing, sampling)
            for writing, sampling in zip(writings, samplings, strict=True)
        ]
        draws = [_draw(sampling) for sampling in samplings]
        alive, states, mask = list(range(len(answers))), prompted.states, prompted.mask
        lengths = mask.sum(1)
        updates = adapted(alive)
        while True:
            following = self._taken(states, [answers[row] for row in alive], alive, draws)
            full = [self._longest is not None and n >= self._longest for n in lengths.tolist()]
            for place, row in enumerate(alive):
                if answers[row].forced and full[place]:
                    answers[row].finish = "length"
                    continue
                if answers[row].forced:
                    following[place] = answers[row].forced.pop(0)
                    continue
                most = samplings[row].max_tokens or writings[row].max_tokens
                if full[place] or not options.wanted(prompted.rows[row]):
                    most = 0  # there is no room to read what was written, or nobody asks for more
                stops = (*writings[row].stop, *samplings[row].stop)
                told = options.told and partial(options.told, prompted.rows[row])
                answers[row].look(most, stops, told)
            left = [place for place, row in enumerate(alive) if answers[row].finish is None]
            if not left:
                return [answer.written() for answer in answers]
            if len(left) < len(alive):
                kept = torch.tensor(left, device=mask.device)
                prompted.cache.batch_select_indices(kept)
                mask, lengths = mask[kept], lengths[kept]
                following = [following[place] for place in left]
                alive = [alive[place] for place in left]
                updates = adapted(alive)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            ids = torch.tensor(following, device=mask.device)
            with hooks.applied(updates) as added:
                states = step_backbone(self._backbone, ids, mask, lengths, prompted.cache)
            hooks.require_added(updates, added)
            lengths = lengths + 1

    def _begun(self, writing: Writing, sampling: Sampling) -> _Answer:
        forced = list(template_tokens(self._backbone, writing.template))
        stops = {self._special.get(stop, self._end) for stop in (*writing.stop, *sampling.stop)}
        of = partial(text_of, self._backbone.tokenizer)
        return _Answer(of, forced, frozenset({self._end, *stops}))

    def _taken(
        self,
        states: Tensor,
        answers: Sequence[_Answer],
        rows: Sequence[int],
        draws: Sequence[Callable[[Tensor], int] | None],
    ) -> list[int]:
        """The next token of each row, noted in those that are not still in their template."""
        if all(answer.forced for answer in answers):
            return [0] * len(answers)
        scores = self._language.scores(states)
        best = scores.topk(2, dim=1)
        tokens = scores.argmax(1).tolist()
        leads = (best.values[:, 0] - best.values[:, 1]).tolist()
        for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            draw = draws[row]
            if answer.forced or draw is None:
                continue
            tokens[place] = draw(scores[place])
        # As odds, of which float32 loses nothing near certainty: some devices have no float64.
        own = torch.tensor(tokens, device=scores.device).unsqueeze(1)
        others = (scores - scores.gather(1, own)).scatter(1, own, -inf)
        against = others.logsumexp(1).tolist()
        for place, answer in enumerate(answers):
            if not answer.forced:
                answer.take(tokens[place], against[place], leads[place])
        return tokens


def _likelihood(against: float) -> float:
    """Log-probability of what has these log-odds against it."""
    return -max(against, 0.0) - log1p(exp(-abs(against)))


def text_of(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of an answer's tokens, special ones left out."""
    text: str = tokenizer.decode(
        list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """The special tokens by their text.

    They are left out of answers, so as a text at which one ends they are looked for as tokens.
    """
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    return {token.content: number for number, token in added.items() if token.special}


def template_tokens(backbone: Backbone, template: str) -> tuple[int, ...]:
    """A template as tokens, without any that the tokenizer adds around a text."""
    own = backbone.tokenizer.backend_tokenizer
    return tuple(own.encode(template, add_special_tokens=False).ids)


def _draw(sampling: Sampling) -> Callable[[Tensor], int] | None:
    """How a row's tokens are drawn; ``None`` where the likeliest is taken."""
    if sampling.temperature == 0:
        return None
    generator = torch.Generator().manual_seed(sampling.seed)

    def draw(scores: Tensor) -> int:
        own = scores.cpu().double()
        # The best is 0 before it is divided: any other order overflows at small temperatures.
        chances = torch.softmax((own - own.max()) / sampling.temperature, 0)
        ordered, order = chances.sort(descending=True, stable=True)
        before = ordered.cumsum(0) - ordered
        kept = ordered.masked_fill(before >= sampling.top_p, 0.0)
        return int(order[torch.multinomial(kept, 1, generator=generator)])

    return draw
