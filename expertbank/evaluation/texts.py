"""How near written answers come to those that were wanted: words in common, and in common order."""

from __future__ import annotations

import re
import string
from collections import Counter
from statistics import fmean

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_SIGNS = str.maketrans("", "", string.punctuation)


def same_text(one: str, other: str) -> bool:
    """Equal, white space at the ends and its amount between words aside."""
    return one.split() == other.split()


def words_of(text: str) -> list[str]:
    """Words as SQuAD's evaluation has them (Rajpurkar et al., arXiv 1606.05250).

    In lower case, without ASCII punctuation and English articles.
    """
    return _ARTICLES.sub(" ", text.lower().translate(_NO_SIGNS)).split()


def token_f1(answered: str, wanted: str) -> float:
    """F1 of the words in common; 1 where neither has any."""
    mine, theirs = words_of(answered), words_of(wanted)
    if not mine or not theirs:
        return float(mine == theirs)
    hits = (Counter(mine) & Counter(theirs)).total()
    return 2 * hits / (len(mine) + len(theirs))


def rouge_l(answered: tuple[str, ...], wanted: tuple[str, ...]) -> float | None:
    """Mean F-measure of ROUGE-L by package rouge-score; ``None`` where it is not installed.

    Its words are runs of ASCII letters and digits: of other scripts it says nothing.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        return None
    scorer = RougeScorer(["rougeL"])
    pairs = zip(wanted, answered, strict=True)
    return float(fmean(scorer.score(one, other)["rougeL"].fmeasure for one, other in pairs))
