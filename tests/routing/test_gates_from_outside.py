"""A gate without layers, added from outside, does the whole job; without it banks still open."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from expertbank_cli.main import run
from expertbank_sample.knn import KNN, KnnGate
from torch import Tensor

from expertbank import Bank, RouterConfig, Row, TrainConfig, load_bundle
from expertbank.config import sha256_text
from expertbank.errors import InputError, IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.routing.gates import GATES
from expertbank.routing.router import Router
from expertbank.testing.routers import TaskFeatures, fit_router

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[1] / "plugins" / "sample" / "expertbank_sample"
TOPICS = {"films": ("film", "plot"), "laws": ("vote", "tax"), "games": ("goal", "team")}


@pytest.fixture(autouse=True)
def _knn(monkeypatch: pytest.MonkeyPatch) -> None:
    GATES.register("knn", KNN)
    monkeypatch.delenv("EXPERTBANK_HOME", raising=False)


def rows_about(name: str, count: int, seed: int) -> Tensor:
    centre = torch.randn(6, generator=torch.Generator().manual_seed(sum(name.encode())))
    noise = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return (3 * centre + noise).half()


def knn_router() -> Router:
    tasks = [
        TaskFeatures(
            f"{name}@1",
            sha256_text(name),
            name,
            "classification",
            None,
            rows_about(name, 40, seed),
            ("single",) * 40,
        )
        for seed, name in enumerate(("a", "b", "c"))
    ]
    return fit_router(tasks, RouterConfig("knn", neighbours=2, rows=15), "f" * 64)


def test_it_is_fitted_calibrated_stored_read_and_cut_to_some_columns() -> None:
    router = knn_router()
    assert isinstance(router.gate, KnnGate)
    assert (router.kind, router.dimension, router.parameter_count) == ("knn", 6, 3 * 15 * 6)
    assert router.temperature != 1
    assert router.unknown is not None
    again = Router.from_bytes(router.to_bytes(), "test")
    assert again.to_bytes() == router.to_bytes() == knn_router().to_bytes()
    rows = torch.cat([rows_about(name, 30, 70 + seed) for seed, name in enumerate("abc")])
    chosen = [router.columns[place][0].task for place in again.route(rows).index.tolist()]
    assert sum(a == b for a, b in zip(chosen, [*"a" * 30, *"b" * 30, *"c" * 30], strict=True)) > 80
    part = router.subset(["c", "a"])
    own = [router.column_of(name) for name in sorted("ac", key=router.column_of)]
    assert torch.equal(part.scores(rows), router.scores(rows)[:, own])
    assert Router.from_bytes(part.to_bytes(), "test").to_bytes() == part.to_bytes()


DAMAGES: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], Any]] = {
    "an owner beyond the members": lambda t, m: t["owners"].fill_(7),
    "an owner below zero": lambda t, m: t["owners"][:1].fill_(-1),
    "rows of another width": lambda t, m: t.update(rows=torch.zeros(45, 5).half()),
    "no rows": lambda t, m: t.pop("rows"),
    "no rows in a matrix": lambda t, m: t.update(rows=torch.zeros(0, 6).half()),
    "a NaN": lambda t, m: t["rows"].view(-1)[:1].fill_(float("nan")),
    "a tensor too many": lambda t, m: t.update(more=torch.zeros(1)),
    "no neighbours": lambda t, m: m.pop("neighbours"),
    "neighbours that are a word": lambda t, m: m.update(neighbours="two"),
    "a column too few": lambda t, m: t.update(owners=t["owners"].clamp_max(1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_such_gate_is_refused(damage: str) -> None:
    tensors, metadata = read_safetensors(knn_router().to_bytes(), "test")
    DAMAGES[damage](tensors, metadata)
    with pytest.raises(IntegrityError, match="somewhere"):
        Router.from_bytes(write_safetensors(tensors, metadata), "somewhere")


@pytest.fixture(scope="module")
def made(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bank of three tasks whose gate is the plugin's, and a bundle of it."""
    GATES.register("knn", KNN)
    folder = tmp_path_factory.mktemp("knn")
    rng = random.Random(0)
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        for task, topic in TOPICS.items():
            with (folder / f"{task}.csv").open("w", newline="") as file:
                lines = csv.writer(file)
                lines.writerow(("text", "label"))
                for place in range(60):
                    label = ("bad", "good")[place % 2]
                    words = [*rng.choices(topic, k=3), label, str(place)]
                    lines.writerow((" ".join(rng.sample(words, len(words))), label))
            bank.add(task, data=folder / f"{task}.csv", train=TrainConfig(epochs=1))
    words = ("retrain-router", "--kind", "knn", "--set", "neighbours=2")
    answer = called("--home", folder / "bank", "--json", *words)
    assert answer["router"]["kind"] == "knn"
    assert answer["metrics"]["accuracy"] > 0.5
    called("--home", folder / "bank", "--json", "export", folder / "bundle")
    return folder


def called(*words: object) -> Any:
    """What a command answers, run in this process, where the gate is registered."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        run([str(word) for word in words])
    assert ended.value.code == 0, err.getvalue()
    return [json.loads(line) for line in out.getvalue().splitlines()][-1]


TEXTS = ("film plot film good", "tax vote tax bad", "goal team goal good")


def test_it_routes_alike_in_bank_and_bundle_and_a_part_of_it_ships(made: Path) -> None:
    with Bank.open(made / "bank", read_only=True) as bank:
        answers = bank.predict(list(TEXTS))
        assert bank.forgetting_report(verify=True).router == 1
    assert [answer.task for answer in answers] == ["films", "laws", "games"]
    assert list(load_bundle(made / "bundle").predict(map(Row, TEXTS))) == answers
    words = ("--home", made / "bank", "--json", "export", made / "part", "--task", "films")
    called(*words, "--task", "laws")
    assert load_bundle(made / "part").tasks == ("films", "laws")


WITHOUT = """
import sys
from expertbank import Bank, Row, load_bundle
from expertbank.errors import NotFoundError
home, bundle = sys.argv[1:]
with Bank.open(home) as bank:
    assert len(bank.experts()) == 3 and bank.routers()[0].kind == "knn"
    assert bank.verify().ok
    assert bank.forgetting_report().average_accuracy is not None
    assert bank.predict(["a film"], task="films")[0].task == "films"
    assert bank.export(bundle + "-again").digest
    for refused in (lambda: bank.predict(["a film"]), lambda: bank.export(bundle, tasks=["laws"])):
        try:
            refused()
        except NotFoundError as error:
            assert "no gate named 'knn'" in str(error) and "install that package" in str(error)
        else:
            raise AssertionError("a gate that is not here chose")
    assert bank.retrain_router("lda", activate=False).router.kind == "lda"
loaded = load_bundle(bundle)
assert next(iter(loaded.predict([Row("a film")], task="films"))).task == "films"
try:
    list(loaded.predict([Row("a film")]))
except NotFoundError as error:
    print(error)
"""


HELP = """
import sys
from expertbank_cli.main import run
try:
    run(["retrain-router", "--help"])
except SystemExit:
    print("torch" in sys.modules)
"""


def process(*words: object, path: Path | None = None) -> str:
    """What a process of its own prints, which has the plugin only if its path is given."""
    paths = [str(Path.cwd()), *([str(path)] if path else [])]
    ended = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_where_it_is_not_installed_all_works_but_choosing(made: Path) -> None:
    said = process("-c", WITHOUT, made / "bank", made / "bundle")
    assert "router cannot choose without its gate: no gate named 'knn'" in said
    assert "expertbank.gates" in said


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder as pip leaves one, whose package brings the gate by an entry point."""
    folder = tmp_path / "knn_gate-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: knn-gate\nVersion: 1.0\n")
    module = "expertbank_sample.knn"
    points = f"[expertbank.gates]\nknn = {module}:KNN\nhalf = {module}:KnnSettings\n"
    (folder / "entry_points.txt").write_text(points)
    shutil.copytree(SAMPLE, tmp_path / SAMPLE.name)
    return tmp_path


def test_an_installed_gate_is_named_by_help_without_torch_and_routes(
    made: Path, installed: Path
) -> None:
    shown = process("-c", HELP, path=installed)
    assert "knn" in shown
    assert shown.splitlines()[-1] == "False"
    words = ["--home", made / "bank", "--json", "predict", *TEXTS]
    lines = process("-m", "expertbank_cli.main", *words, path=installed).splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["films", "laws", "games"]


def test_what_is_no_gate_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="'half' lacks settings"):
        GATES.register("half", object())  # type: ignore[arg-type]
    assert "half" not in GATES.names()
    with pytest.raises(InputError, match="frozen dataclass"):
        type(KNN)(int, KNN.fit, KNN.read)
