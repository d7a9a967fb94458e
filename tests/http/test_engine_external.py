"""A bank whose experts are names of adapters elsewhere, in front of a real engine."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from answering import Answering, answering, outputs, problem
from served import running
from small_engine import SmallEngine

from expertbank import Bank, TrainConfig
from expertbank.data import task_spec
from expertbank.http.engine import router
from expertbank.http.limits import EngineConfig
from expertbank.serving.engine import Engine

ABOUT = {"law": "law tax vote party", "bio": "cell gene virus light", "sport": "goal match team"}
ADAPTERS = {"law": "law-v2", "bio": "org/bio", "sport": "sport-x"}
ASKED = {"law": "tax law the party vote", "bio": "gene cell a virus", "sport": "team goal is match"}
OURS = "film bad plot the film"


def write(path: Path, words: str, labelled: bool) -> Path:
    rng, rows = random.Random(words), {}
    while len(rows) < 80:
        some = rng.choices(words.split(), k=rng.randint(2, 4))
        text = " ".join([*some, *rng.choices(("is", "the", "a", "of"), k=3)])
        rows[text] = f"{text},{'bad' if 'bad' in some else 'good'}" if labelled else text
    path.write_text("\n".join(["text,label" if labelled else "text", *rows.values()]) + "\n")
    return path


@pytest.fixture(scope="module")
def home(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three names of adapters elsewhere, and an expert of the bank's own."""
    folder = tmp_path_factory.mktemp("names")
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        for task, words in ABOUT.items():
            spec = task_spec(task, external=ADAPTERS[task])
            bank.add(spec, data=write(folder / f"{task}.csv", words, False))
        data = write(folder / "film.csv", "film bad plot good", True)
        bank.add("film", data=data, train=TrainConfig(epochs=1))
        bank.retrain_router()
    return folder / "bank"


@pytest.fixture(scope="module")
def engine() -> SmallEngine:
    return SmallEngine("law-v2", "org/bio", "sport-new", "film")


@pytest.fixture(scope="module")
def front(home: Path, engine: SmallEngine) -> Iterator[Answering]:
    with running(engine.app) as url:
        there = Engine.of(url, ["sport=sport-new"])
        config = EngineConfig(engine_connect_seconds=2, engine_seconds=5)
        with answering(home, engine=lambda s, k: router(s, there, config, k)) as found:
            yield found


@pytest.mark.parametrize(
    ("task", "model"),
    [("law", "law-v2"), ("bio", "org/bio"), ("sport", "sport-new"), ("film", "film")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_content_chooses_the_name_that_was_given_and_the_servers_own_flag_wins(
    front: Answering, engine: SmallEngine, task: str, model: str, stream: bool
) -> None:
    asked = {"prompt": ASKED.get(task, OURS), "temperature": 0.5, "stream": stream}
    answered = front.post("/v1/completions", asked)
    assert answered.status_code == 200
    assert answered.headers["x-expertbank-task"] == task
    assert answered.headers["x-expertbank-model"] == model
    assert json.loads(engine.seen[-1]) == {**asked, "model": model}
    messages = [{"role": "user", "content": asked["prompt"]}]
    chat = front.post("/v1/chat/completions", {"model": "auto", "messages": messages})
    assert chat.json()["choices"][0]["message"]["content"] == f"{model} answers"
    assert json.loads(engine.seen[-1])["messages"] == messages


def test_an_engine_that_lacks_the_adapter_is_told_with_what_to_do(home: Path) -> None:
    with running(SmallEngine("base").app) as url:
        there, config = Engine.of(url), EngineConfig()
        with answering(home, engine=lambda s, k: router(s, there, config, k)) as front:
            told = problem(front.post("/v1/completions", {"prompt": ASKED["law"]}), 404)
    assert "adapter 'law-v2' of task 'law'" in told["detail"]
    assert "--engine-model law=NAME" in told["detail"]


def test_every_other_route_names_the_adapter_and_gives_no_label(front: Answering) -> None:
    rows = [{"text": text} for text in (ASKED["bio"], OURS)]
    body = "\n".join(map(json.dumps, rows)).encode()
    answered = front.post("/predict", body, headers={"content-type": "application/x-ndjson"})
    theirs, ours = (json.loads(line) for line in answered.text.splitlines())
    assert (theirs["task"], theirs["external_adapter"], theirs["label"]) == ("bio", "org/bio", None)
    assert ours["label"] in {"good", "bad"}
    told = outputs(front.infer(ASKED["bio"], OURS))
    assert told["label"]["data"] == ["", ours["label"]]
    assert json.loads(told["answer"]["data"][0])["external_adapter"] == "org/bio"
    listed = front.get("/v2/models/bio").json()["parameters"]
    assert (listed["kind"], listed["labels"]) == ("external", ["org/bio"])
    classified = front.post("/classify", {"input": [ASKED["bio"]]}).json()["data"][0]
    assert (classified["label"], classified["probs"], classified["task"]) == ("", [], "bio")
    assert classified["external_adapter"] == "org/bio"
    form = {"content-type": "application/x-www-form-urlencoded"}
    page = front.post(
        "/", f"text={ASKED['bio'].replace(' ', '+')}&model=auto".encode(), headers=form
    )
    assert "(adapter org/bio)" in page.text


@pytest.mark.parametrize("stream", [False, True])
def test_without_an_engine_nobody_answers_for_the_adapter(home: Path, stream: bool) -> None:
    with answering(home) as front:
        asked = {"prompt": ASKED["law"], "stream": stream}
        answered = front.post("/v1/completions", asked)
        told = answered.text if stream else problem(answered, 422)["detail"]
        assert "'law-v2'" in told
        assert "--engine" in told
        ours = front.post("/v1/completions", {"prompt": OURS, "model": "film"}).json()
        assert ours["choices"][0]["text"] in {"good", "bad"}
