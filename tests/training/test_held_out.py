"""Training ends when neither the held-out score nor the held-out loss gets any better."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from expertbank.training.held_out import HeldOut, fruitless

POINTS = st.builds(HeldOut, st.integers(0, 4).map(float), st.integers(0, 4).map(float))
CURVES = st.lists(POINTS, min_size=1, max_size=12)


def test_a_score_that_leaps_about_does_not_hide_a_loss_that_falls() -> None:
    curve = [HeldOut(0.69, 0.70), HeldOut(0.62, 0.66), HeldOut(0.66, 0.62), HeldOut(0.64, 0.61)]
    assert fruitless(curve) == 0
    assert fruitless([*curve, HeldOut(0.68, 0.62)]) == 1
    assert fruitless([*curve, HeldOut(0.68, 0.62), HeldOut(0.70, 0.90)]) == 0


def test_an_equal_score_counts_as_better_at_a_lower_loss() -> None:
    curve = [HeldOut(0.5, 0.4), HeldOut(0.6, 0.9), HeldOut(0.6, 0.8)]
    assert fruitless(curve) == 0
    assert fruitless([*curve, HeldOut(0.6, 0.8)]) == 1


@given(CURVES)
def test_it_counts_from_the_last_epoch_that_was_the_best_in_score_or_in_loss(
    curve: list[HeldOut],
) -> None:
    gained = [
        epoch
        for epoch, now in enumerate(curve)
        if all(now.better_than(one) for one in curve[:epoch])
        or all(now.loss < one.loss for one in curve[:epoch])
    ]
    assert fruitless(curve) == len(curve) - 1 - gained[-1]


@given(CURVES, POINTS)
def test_no_epoch_makes_it_longer_by_more_than_one(curve: list[HeldOut], more: HeldOut) -> None:
    assert fruitless([*curve, more]) in {0, fruitless(curve) + 1}
