"""Gates are fitted on features alone: exactly, in any order, and with honest confidence."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.nn.functional import cross_entropy

from expertbank.config import sha256_text
from expertbank.errors import InputError, IntegrityError
from expertbank.files.tensors import read_safetensors
from expertbank.records import RowShape
from expertbank.routing.calibration import best_temperature, rows_a_column
from expertbank.routing.columns import competing
from expertbank.routing.config import RouterConfig
from expertbank.routing.examples import Block, Rows
from expertbank.routing.gates import GATES, GateKind
from expertbank.routing.gates.layers import Layer, LayeredGate
from expertbank.routing.gates.lda import fit_lda
from expertbank.routing.gates.ridge import fit_ridge
from expertbank.routing.gates.settings import ByGradient, ClosedForm
from expertbank.routing.moments import BalancedMoments
from expertbank.routing.router import Router
from expertbank.testing.routers import TaskFeatures, fit_router

KINDS = ("lda", "ridge", "noisy-top1", "mlp")
DIMENSION = 12


def config_of(kind: str, **wishes: int) -> RouterConfig:
    """The kind with those of the wishes that it knows."""
    known = {field.name for field in fields(GATES.get(kind).settings)}
    return RouterConfig(kind, **{name: wish for name, wish in wishes.items() if name in known})


def task_of(name: str, train: Tensor, group: str | None = None) -> TaskFeatures:
    shapes = ("single",) * len(train)
    digest = sha256_text(name)
    return TaskFeatures(f"{name}@1", digest, name, "classification", group, train, shapes)


def cluster(
    name: str, seed: int, rows: int, *, spread: float = 1.0, distance: float = 3.0
) -> Tensor:
    """Rows around a centre that the name decides."""
    centre = torch.randn(
        DIMENSION, generator=torch.Generator().manual_seed(int(sha256_text(name)[:8], 16))
    )
    noise = torch.randn(rows, DIMENSION, generator=torch.Generator().manual_seed(seed))
    return (centre / centre.norm() * distance + noise * spread).half()


def tasks_of(*sizes: int, **wishes: float) -> list[TaskFeatures]:
    return [
        task_of(f"task{i}", cluster(f"task{i}", i, rows, **wishes)) for i, rows in enumerate(sizes)
    ]


def reference_ridge(tasks: list[TaskFeatures], strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares on the rows themselves, penalty as extra rows, via lstsq."""
    rows = np.concatenate([task.train.double().numpy() for task in tasks])
    targets = np.concatenate([np.full(len(task.train), i) for i, task in enumerate(tasks)])
    sizes = np.array([len(task.train) for task in tasks])
    weights = 1 / (len(tasks) * sizes[targets])  # every task has the same say; they sum to 1
    mean = weights @ rows
    centred = rows - mean
    one_hot = np.eye(len(tasks))[targets]
    target_mean = weights @ one_hot
    variance = (weights[:, None] * centred**2).sum(0).mean()
    penalty = np.sqrt(strength * variance) * np.eye(rows.shape[1])
    root = np.sqrt(weights)[:, None]
    left = np.concatenate([root * centred, penalty])
    right = np.concatenate([root * (one_hot - target_mean), np.zeros((len(mean), len(tasks)))])
    solution = np.linalg.lstsq(left, right, rcond=None)[0]
    return solution, target_mean - mean @ solution


def summed(tasks: list[TaskFeatures]) -> list[Block]:
    return [Block(list(range(len(tasks))), BalancedMoments.of([task.train for task in tasks]))]


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("sizes", [(40, 40, 40), (200, 15, 60), (5, 4)], ids=str)
def test_ridge_is_the_task_balanced_least_squares_solution(
    sizes: tuple[int, ...], strength: float
) -> None:
    tasks = tasks_of(*sizes)
    (layer,) = fit_ridge(summed(tasks), ClosedForm(strength)).layers
    expected_weight, expected_bias = reference_ridge(tasks, strength)
    # The gate is stored in float32.
    np.testing.assert_allclose(layer.weight.numpy(), expected_weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.bias.numpy(), expected_bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [(40, 40, 40), (200, 20, 60), (50, 30)], ids=str)
@pytest.mark.parametrize("strength", [1e-9, 1e-2, 1.0])
def test_lda_scores_are_log_odds_of_gaussians_with_one_covariance(
    sizes: tuple[int, ...], strength: float
) -> None:
    tasks = tasks_of(*sizes)
    gate = fit_lda(summed(tasks), ClosedForm(strength))
    rows = [task.train.double().numpy() for task in tasks]
    own = np.mean([np.cov(part.T, bias=True) for part in rows], 0)
    variances = np.diag(own)
    covariance = own + strength * np.diag(variances + 0.03 * variances.mean())
    unseen = cluster("anything", 5, 30).double().numpy()
    densities = np.stack(
        [multivariate_normal(part.mean(0), covariance).logpdf(unseen) for part in rows], 1
    )
    scores = gate.scores(torch.from_numpy(unseen)).numpy()
    # The gate is stored in float32, and only differences between columns mean something.
    np.testing.assert_allclose(
        scores - scores[:, :1], densities - densities[:, :1], rtol=1e-4, atol=1e-4
    )


def test_features_that_never_vary_and_fewer_rows_than_features_leave_lda_finite() -> None:
    tasks = tasks_of(4, 3)
    still = [replace(t, train=torch.cat([t.train, torch.ones(len(t.train), 30)], 1)) for t in tasks]
    (layer,) = fit_lda(summed(still), ClosedForm()).layers
    assert bool(torch.isfinite(layer.weight).all())
    assert float(layer.weight[DIMENSION:].abs().max()) < 1e-8 < float(layer.weight.abs().max())


@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_the_temperature_is_the_most_likely_one_with_one_row_in_doubt(spread: float) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    targets = torch.arange(60) % 3
    scores[torch.arange(60), targets] += spread
    allowed = torch.ones(60, 4, dtype=torch.bool)
    allowed[::2, 3] = False
    eye = LayeredGate((Layer(torch.eye(4), torch.zeros(4)),))
    found = best_temperature(eye, Rows(scores, targets, ~allowed, torch.ones(4)))

    def loss(log_temperature: float) -> float:
        total = 0.0
        for row, target, may in zip(scores.numpy(), targets.tolist(), allowed, strict=True):
            logs = log_softmax(row[may.numpy()] / np.exp(log_temperature))
            wanted = np.full(len(logs), 1 / 62 / (len(logs) - 1))
            wanted[target] = 61 / 62
            total -= float(wanted @ logs)
        return total

    best = minimize_scalar(loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-9})
    assert np.log(found) == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize("alone", [True, False])
def test_rows_that_tell_nothing_of_the_temperature_leave_it_at_one(alone: bool) -> None:
    eye = LayeredGate((Layer(torch.eye(2), torch.zeros(2)),))
    targets = torch.arange(20) % 2
    allowed = torch.eye(2)[targets].bool() if alone else torch.ones(20, 2, dtype=torch.bool)
    scores = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)) * alone
    assert best_temperature(eye, Rows(scores, targets, ~allowed, torch.ones(4))) == 1.0


class _Wild:
    """A plugin's gate that stores finite numbers and scores none."""

    dimension, columns, parameter_count = DIMENSION, 3, 1

    def scores(self, features: Tensor) -> Tensor:
        return torch.full((len(features), 3), float("nan"), dtype=torch.float64)

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": torch.ones(1)}


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        (RouterConfig("mlp", lr=1e5), "is not finite; give it other settings: --set .*lr"),
        (RouterConfig("mlp", lr=1e6), "is not finite; give it other settings: --set .*lr"),
        (
            RouterConfig("lda", ridge=1e-300),
            "cannot be solved; .*: --set ridge",
        ),
        (
            RouterConfig("ridge", ridge=1e-300),
            "cannot be solved; .*: --set ridge",
        ),
    ],
)
def test_a_gate_that_did_not_converge_is_refused_with_what_to_change(
    config: RouterConfig, remedy: str
) -> None:
    # One feature twice: without a ridge to speak of no equation tells the two apart.
    tasks = [replace(t, train=t.train.repeat(1, 2) * 30) for t in tasks_of(60, 60, 60)]
    with pytest.raises(InputError, match=f"the {config.kind} gate did not converge.*{remedy}"):
        fit_router(tasks, config, "f" * 64)


def test_a_gate_whose_scores_are_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wild = GateKind(ByGradient, lambda examples, settings: _Wild(), lambda *read: _Wild())
    monkeypatch.setattr(GATES, "get", lambda kind: wild)
    with pytest.raises(InputError, match="wild gate did not converge: a score is not finite"):
        fit_router(tasks_of(60, 60, 60), RouterConfig("wild"), "f" * 64)


def test_a_router_that_no_reader_would_take_is_not_written() -> None:
    router = fit_router(tasks_of(30, 30), RouterConfig(), "f" * 64)
    (layer,) = router.gate.layers
    odd = LayeredGate((replace(layer, bias=layer.bias / 0),))
    for spoilt, name in (
        (replace(router, gate=odd), "bias"),
        (replace(router, temperature=float("nan")), "temperature"),
    ):
        with pytest.raises(InputError, match=f"{name} is not finite"):
            spoilt.to_bytes()
    with pytest.raises(IntegrityError, match="scores that are not finite"):
        replace(router, gate=odd).route(tasks_of(5)[0].train)


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_in_any_order_give_the_same_bytes(kind: str) -> None:
    tasks = tasks_of(30, 50, 20)
    config = config_of(kind, epochs=3, hidden=16)
    files = {
        fit_router(order, config, "f" * 64).to_bytes() for order in itertools.permutations(tasks)
    }
    assert len(files) == 1


def accuracy(router, count: int, **wishes: float) -> float:
    right = 0
    for place, one in enumerate(router.members):
        choice = router.route(cluster(one.task, 1000 + place, count, **wishes))
        right += int((choice.index == place).sum())
    return right / (count * len(router.members))


@pytest.mark.parametrize("kind", KINDS)
def test_separable_tasks_are_told_apart(kind: str) -> None:
    wishes = {"spread": 0.5, "distance": 4.0}
    router = fit_router(
        tasks_of(200, 200, 200, 200, **wishes), config_of(kind, hidden=16), "f" * 64
    )
    assert accuracy(router, 200, **wishes) >= 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_task_has_the_same_say_as_a_large_one(kind: str) -> None:
    tasks = tasks_of(1000, 25, spread=1.0, distance=2.5)
    router = fit_router(tasks, RouterConfig(kind), "f" * 64)
    small = [one.task for one in router.members].index("task1")
    choice = router.route(cluster("task1", 77, 300, spread=1.0, distance=2.5))
    assert (choice.index == small).float().mean() >= 0.85


def test_noisy_top1_is_its_seeds_and_has_no_noise_once_fitted() -> None:
    tasks = tasks_of(60, 60, 60)
    state = torch.random.get_rng_state()

    def fitted(seed: int):
        return fit_router(tasks, RouterConfig("noisy-top1", epochs=5, seed=seed), "f" * 64)

    assert fitted(0).to_bytes() == fitted(0).to_bytes()
    assert fitted(0).to_bytes() != fitted(1).to_bytes()
    router, rows = fitted(0), cluster("task1", 50, 40, spread=3.0)
    first = router.route(rows)
    for _ in range(5):
        again = router.route(rows)
        assert torch.equal(again.index, first.index)
        assert torch.equal(again.confidence, first.confidence)
    assert torch.equal(torch.random.get_rng_state(), state)


def negative_log_likelihood(router, temperature: float, **wishes: float) -> float:
    losses = []
    for place, one in enumerate(router.members):
        scores = router.scores(cluster(one.task, 2000 + place, 500, **wishes)) / temperature
        losses.append(cross_entropy(scores, torch.full((500,), place)).item())
    return sum(losses) / len(losses)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", [0.5, 1.5, 4.0])
def test_the_temperature_makes_confidence_on_unseen_rows_no_worse(
    kind: str, distance: float
) -> None:
    tasks = tasks_of(1400, 1400, 1400, distance=distance)
    router = fit_router(tasks, config_of(kind, epochs=20), "f" * 64)
    calibrated = negative_log_likelihood(router, router.temperature, distance=distance)
    assert calibrated <= negative_log_likelihood(router, 1.0, distance=distance) + 0.01
    assert calibrated <= np.log(3) + 0.01, "and no worse than not knowing"


def test_the_temperature_changes_no_choice() -> None:
    router = fit_router(tasks_of(100, 100, 100), RouterConfig(), "f" * 64)
    rows = cluster("task0", 9, 100, spread=3.0)
    assert router.temperature != 1
    assert torch.equal(router.route(rows).index, router.scores(rows).argmax(1))


@pytest.mark.parametrize("kind", KINDS)
def test_one_task_alone_always_wins(kind: str) -> None:
    router = fit_router(tasks_of(20), config_of(kind, hidden=16), "f" * 64)
    choice = router.route(cluster("anything", 1, 10))
    assert (choice.index == 0).all()
    assert torch.equal(choice.confidence, torch.ones(10, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_too_small_to_calibrate_still_give_a_router(kind: str) -> None:
    router = fit_router(tasks_of(3, 2), config_of(kind, hidden=16), "f" * 64)
    assert router.temperature == 1
    assert len(router.members) == 2


def test_moments_of_a_mixture_are_those_of_its_rows_weighted_equally() -> None:
    rows = [cluster(f"task{i}", i, 40 + 7 * i).double() for i in range(3)]
    moments = BalancedMoments.of(rows)
    mixture = torch.stack([part.T @ part / len(part) for part in rows]).mean(0)
    centre = torch.stack([part.mean(0) for part in rows]).mean(0)
    torch.testing.assert_close(moments.mean, centre)
    torch.testing.assert_close(moments.covariance, mixture - torch.outer(centre, centre))
    own = torch.stack([torch.cov(part.T, correction=0) for part in rows]).mean(0)
    torch.testing.assert_close(moments.within, own)


def test_leaving_a_task_out_gives_the_router_it_never_was_in() -> None:
    tasks = tasks_of(50, 60, 70)
    without = fit_router(tasks[:2], RouterConfig(), "f" * 64)
    whole = fit_router(tasks, RouterConfig(), "f" * 64)
    assert (
        fit_router([tasks[1], tasks[0]], RouterConfig(), "f" * 64).to_bytes() == without.to_bytes()
    )
    assert whole.to_bytes() != without.to_bytes()


def test_a_router_knows_its_members_and_its_spec() -> None:
    tasks = tasks_of(30, 30)
    router = fit_router(tasks, RouterConfig(), "e" * 64)
    assert {one.id for one in router.members} == {"task0@1", "task1@1"}
    assert [one.digest for one in router.members] == sorted(task.digest for task in tasks)
    assert router.feature_spec_digest == "e" * 64
    assert router.parameter_count == DIMENSION * 2 + 2


def test_tasks_of_one_group_are_one_column_that_learnt_both() -> None:
    # The same rows of 320 sit out of a part's sums and of the whole's: every sixteenth.
    a, b, c = (cluster(f"task{i}", i, 320) for i in range(3))
    tasks = [task_of("one", a, "pair"), task_of("two", b, "pair"), task_of("three", c)]
    router = fit_router(tasks, RouterConfig(), "f" * 64)
    names = [{member.task for member in column} for column in router.columns]
    assert sorted(map(sorted, names)) == [["one", "two"], ["three"]]
    assert router.column_of("one") == router.column_of("two") != router.column_of("three")
    assert router.gate.layers[-1].weight.shape == (DIMENSION, 2)
    # In the order of the digests, as whole and part are summed.
    own = [task.train for task in sorted(tasks, key=lambda t: t.digest) if task.group]
    joined = fit_router([task_of("both", torch.cat(own)), tasks[2]], RouterConfig(), "f" * 64)
    rows = torch.cat([cluster(f"task{i}", 50 + i, 40, spread=2.0) for i in range(3)])
    together = router.scores(rows)[:, router.column_of("one")]
    torch.testing.assert_close(together, joined.scores(rows)[:, joined.column_of("both")])


def test_groups_in_any_order_give_the_same_bytes_and_a_subset_keeps_the_others() -> None:
    parts = [cluster(f"task{i}", i, 40) for i in range(4)]
    tasks = [task_of(f"task{i}", rows, "g" if i % 2 else None) for i, rows in enumerate(parts)]
    files = {
        fit_router(order, RouterConfig(), "f" * 64).to_bytes()
        for order in itertools.permutations(tasks)
    }
    assert len(files) == 1
    router = fit_router(tasks, RouterConfig(), "f" * 64)
    part = router.subset(["task1", "task2"])
    assert {member.task for member in part.members} == {"task1", "task2"}
    rows = torch.cat(parts)
    whole = router.scores(rows)[:, [router.column_of("task1"), router.column_of("task2")]]
    own = part.scores(rows)[:, [part.column_of("task1"), part.column_of("task2")]]
    assert torch.equal(whole, own)


def test_a_group_named_like_a_task_stays_apart_from_it() -> None:
    tasks = [task_of("one", cluster("a", 1, 30), "two"), task_of("two", cluster("b", 2, 30))]
    router = fit_router(tasks, RouterConfig(), "f" * 64)
    assert len(router.columns) == 2


def test_a_file_names_the_groups() -> None:
    rows = [cluster(f"task{i}", i, 40) for i in range(3)]
    files = {}
    for group in ("tickets", "desk", None):
        tasks = [task_of("one", rows[0], group), task_of("two", rows[1], group)]
        made = fit_router([*tasks, task_of("three", rows[2])], RouterConfig(), "f" * 64)
        files[group] = made.to_bytes()
        again = Router.from_bytes(files[group], "test")
        assert {member.task: member.group for member in again.members} == {
            "one": group,
            "two": group,
            "three": None,
        }
        _, about = read_safetensors(files[group], "test")
        assert about["format"] == 3
        assert all(len(member) == 6 for member in about["members"] if group is None)
    assert len(set(files.values())) == 3, "a router of another name is another router"


def shaped(name: str, rows: Tensor, shapes: tuple[RowShape, ...]) -> TaskFeatures:
    return replace(task_of(name, rows), shapes=shapes)


def test_rows_go_to_tasks_trained_on_their_shape_as_long_as_there_is_one() -> None:
    tasks = [
        shaped("lone", cluster("a", 1, 40), ("single",) * 40),
        shaped("two", cluster("b", 2, 40), ("pair",) * 40),
        shaped("either", cluster("c", 3, 40), ("single", "pair") * 20),
        shaped("pick", cluster("d", 4, 40), ("choices",) * 40),
    ]
    router = fit_router(tasks, RouterConfig(), "f" * 64)
    assert {m.task: m.reads for m in router.members} == {
        "lone": ("single",),
        "two": ("pair",),
        "either": ("single", "pair"),
        "pick": ("choices",),
    }
    rows = torch.cat([cluster(name, 9, 50) for name in "abcd"])

    def chosen(of: Router, shape: RowShape | None) -> set[str]:
        index = of.route(rows, [shape] * 200 if shape else None).index.tolist()
        return {member.task for place in set(index) for member in of.columns[place]}

    assert chosen(router, None) == {"lone", "two", "either", "pick"}
    assert chosen(router, "single") == {"lone", "either"}
    assert chosen(router, "pair") == {"two", "either"}
    assert chosen(router, "choices") == {"pick"}
    # Without a task of its shape a row still gets an answer, from tasks that can read it.
    assert chosen(router.subset(["lone", "pick"]), "pair") == {"lone"}
    assert chosen(router.subset(["two", "pick"]), "single") == {"two"}
    assert chosen(router.subset(["lone", "two"]), "choices") == {"lone", "two"}


def test_columns_that_never_compete_are_fitted_apart() -> None:
    reads: list[set[RowShape]] = [{"single"}, {"pair"}, {"choices"}, {"single"}, {"pair"}]
    assert competing(reads) == [[0, 3], [1, 4], [2]]
    assert competing([*reads, {"single", "pair"}]) == [[0, 1, 3, 4, 5], [2]]
    rows = {name: cluster(name, seed, 50) for seed, name in enumerate("abcd")}
    singles = [shaped(name, rows[name], ("single",) * 50) for name in "ab"]
    pairs = [shaped(name, rows[name], ("pair",) * 50) for name in "cd"]
    whole = fit_router(singles + pairs, RouterConfig(), "f" * 64)
    alone = fit_router(singles, RouterConfig(), "f" * 64)
    test = torch.cat([cluster(name, 9, 50) for name in "ab"])
    own = [whole.column_of(member.task) for member in alone.members]
    assert torch.equal(whole.scores(test)[:, own], alone.scores(test))


def test_a_mask_leaves_scores_and_choices_among_the_candidates_as_they_are() -> None:
    shapes: tuple[RowShape, ...] = ("single", "pair")
    tasks = [shaped(f"t{i}", cluster(f"t{i}", i, 30), (shapes[i % 2],) * 30) for i in range(4)]
    router = fit_router(tasks, RouterConfig(), "f" * 64)
    rows = torch.cat([cluster(f"t{i}", 70 + i, 25, spread=2.0) for i in range(4)])
    wanted = [shapes[place % 2] for place in range(100)]
    choice = router.route(rows, wanted)
    scores = router.scores(rows)
    for place, shape in enumerate(wanted):
        allowed = [i for i, column in enumerate(router.columns) if shape in column[0].reads]
        own = scores[place, allowed]
        assert int(choice.index[place]) == allowed[int(own.argmax())]
        expected = torch.softmax(own / router.temperature, 0).max()
        assert float(choice.confidence[place]) == pytest.approx(float(expected))


def test_calibration_takes_no_more_scores_with_more_columns() -> None:
    for columns in (1, 2, 40, 447, 448, 1414, 1415, 4472, 4473, 10_000, 100_000):
        each, every = rows_a_column(columns)
        bring = len(range(0, columns, every))
        assert each >= 1
        assert bring * each * columns <= 2_000_000 + columns
        assert bring * each <= 2_500
        if columns <= 1414:
            assert every == 1, "as long as it fits, every column brings rows"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_what_files_of_format_1_held_and_its_grid(kind: str) -> None:
    router = fit_router(tasks_of(30, 40), config_of(kind, hidden=5, epochs=2), "f" * 64)
    tensors, facts = read_safetensors(router.to_bytes(), "test")
    depth = 2 if kind == "mlp" else 1
    names = {f"layers.{n}.{part}" for n in range(depth) for part in ("weight", "bias")}
    halves = {"unknown.within", "unknown.overall"}
    rest = {f"unknown.{name}" for name in ("means", "centre", "place", "sure", "known")}
    assert set(tensors) == names | halves | rest
    for name, tensor in tensors.items():
        assert tensor.dtype == (torch.float16 if name in halves else torch.float32)
    own = {"format", "kind", "members", "feature_spec_digest", "temperature", "unknown"}
    assert set(facts) == own | {"layers", "grid"}
    assert (facts["format"], facts["kind"], facts["layers"]) == (3, kind, depth)
    assert facts["grid"] == {"dimension": DIMENSION, "projection": None}


def test_threads_that_score_at_once_get_what_one_gets_alone() -> None:
    tasks = tasks_of(60, 60, 60)
    rows = cluster("task0", 9, 64, spread=3.0)
    expected = fit_router(tasks, RouterConfig(), "f" * 64).route(rows)
    fresh = fit_router(tasks, RouterConfig(), "f" * 64)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: fresh.route(rows), range(32)):
            assert torch.equal(found.index, expected.index)
            assert torch.equal(found.confidence, expected.confidence)
            assert torch.equal(found.strangeness, expected.strangeness)


def test_weights_are_converted_once_and_not_for_every_batch(monkeypatch) -> None:
    router = fit_router(tasks_of(60, 60, 60), RouterConfig(), "f" * 64)
    rows = cluster("task0", 9, 8)
    router.route(rows)
    converted: list[tuple[int, ...]] = []
    double = Tensor.double

    def counted(tensor: Tensor) -> Tensor:
        converted.append(tuple(tensor.shape))
        return double(tensor)

    monkeypatch.setattr(Tensor, "double", counted)
    router.route(rows)
    assert all(shape[0] <= len(rows) for shape in converted)
