"""Adapters that PEFT trained become experts: routed to, reported on, served, shipped."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft_made
import pytest
import torch
from small_bank import TASKS, content, task_rows, texts, write_task

from expertbank import Bank, Row, TaskSpec, TrainConfig, load_bundle
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.errors import (
    ExistsError,
    ExpertBankError,
    InputError,
    IntegrityError,
    NotFoundError,
)
from expertbank.serving.asking import Ask
from expertbank.serving.from_bank import BankSource
from expertbank.serving.limits import ServeConfig
from expertbank.serving.server import Server
from expertbank.workflows.shipping.peft_base import require_base
from expertbank.workflows.shipping.peft_folder import read_peft_folder

pytest.importorskip("peft")

QUERY_VALUE = {"target_modules": ["query", "value"], **peft_made.LAYERS}
ASKED = texts(10)


@pytest.fixture(scope="module")
def made(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three adapters that PEFT trained, and a bank that took them in one after the other."""
    folder = tmp_path_factory.mktemp("import-peft")
    backbone = backbone_folder("bert")
    peft_made.trained(folder / "films", backbone, "films", **QUERY_VALUE).eval()
    settings = {**QUERY_VALUE, "target_modules": ["key", "output.dense"], "use_rslora": True}
    peft_made.trained(folder / "laws", backbone, "laws", r=2, **settings)
    peft_made.trained_bare(folder / "games", backbone, "games", **QUERY_VALUE)
    with Bank.open(folder / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=32, route_layer=2)
        told = {}
        for task in TASKS:
            data = write_task(folder / f"{task}.csv", task)
            train = TrainConfig(epochs=3)
            told[task] = bank.import_peft(folder / task, task, data=data, train=train).to_dict()
            bank.retrain_router()
    (folder / "told.json").write_text(json.dumps(told))
    with Bank.open(folder / "empty", backbone=str(backbone)) as bank:
        bank.init(max_length=32, route_layer=2)
    return folder


@pytest.fixture(scope="module")
def named_backbone(
    backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Backbone:
    """The same backbone in a folder that says which of the Hub's models it is."""
    folder = tmp_path_factory.mktemp("named") / "backbone"
    shutil.copytree(backbone_folder("bert"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": "org/tiny"}))
    return load_backbone(str(folder), device="cpu")


@pytest.fixture
def told(made: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((made / "told.json").read_text())
    return document


@pytest.fixture
def bank(made: Path) -> Iterator[Bank]:
    with Bank.open(made / "bank") as opened:
        yield opened


def with_peft(folder: Path, backbone: Path) -> torch.Tensor:
    """What PEFT answers with a classifier's adapter that it loads itself."""
    import peft

    model = peft.PeftModel.from_pretrained(peft_made.classifier(backbone), str(folder)).eval()
    return peft_made.logits(model, backbone, ASKED).softmax(1)


def test_they_are_good_and_the_router_finds_their_tasks(bank: Bank, told: dict[str, Any]) -> None:
    for task in TASKS:
        assert told[task]["metrics"]["accuracy"] >= 0.75, told[task]["metrics"]
    rows = [(Row(text), task) for task in TASKS for text, _ in task_rows(task, 30, seed=5)]
    chosen = bank.predict([row for row, _ in rows])
    right = sum(line.task == task for line, (_, task) in zip(chosen, rows, strict=True))
    assert right >= 0.6 * len(rows), "one text in three has no word of its topic"


def test_named_they_answer_as_peft_does(bank: Bank, made: Path, backbone_folder: Any) -> None:
    for task in ("films", "laws"):
        found = bank.predict([Row(text) for text in ASKED], task=task)
        labels = TASKS[task][0]
        scores = torch.tensor([[line.scores[label] for label in labels] for line in found])
        wanted = with_peft(made / task, backbone_folder("bert"))
        assert torch.allclose(scores, wanted, rtol=0, atol=1e-5), task


def test_the_report_counts_them_and_every_row_verifies(bank: Bank, told: dict[str, Any]) -> None:
    report = bank.forgetting_report(verify=True)
    assert report.weights_unchanged
    rows = {task.task: task for task in report.tasks}
    assert set(rows) == set(TASKS)
    for task, row in rows.items():
        assert row.at_add == told[task]["metrics"]["accuracy"]


def test_the_servers_core_answers_with_them_in_one_batch(bank: Bank) -> None:
    server = Server(BankSource(bank), ServeConfig(reload="off"))
    server.start()
    try:
        server.wait_ready(60)
        rows = tuple(Row(text) for text in texts(20))
        answered = server.submit(Ask(rows, "auto")).result(60).predictions
        wanted = bank.predict(list(rows))
        assert {line.task for line in answered} == set(TASKS)
        for found, expected in zip(answered, wanted, strict=True):
            assert found.expert == expected.expert
            assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    finally:
        server.drain(5)
        server.stop()


def test_the_lineage_says_where_each_came_from(bank: Bank, made: Path, told: Any) -> None:
    import hashlib

    heads = {"films": "saved", "laws": "saved", "games": "fitted"}
    for expert in bank.experts():
        run = bank.registry.run(expert.run_id)
        origin = run.config["peft"]
        data = (made / expert.task / "adapter_model.safetensors").read_bytes()
        assert run.kind == "import"
        assert origin["adapter"] == hashlib.sha256(data).hexdigest()
        assert origin["head"] == heads[expert.task]
        assert origin["labels"] == "data"
        assert "/" not in origin["base_model"], "no path of this machine"
        assert run.config["adapter"]["kind"] == "lora"
    assert told["laws"]["adapter"]["modules"] == [
        "attention.output.dense",
        "attention.self.key",
        "output.dense",
    ]
    assert told["games"]["train"]["examples"] > told["films"]["train"]["examples"] == 0


def test_a_bundle_of_them_answers_as_the_bank_and_goes_into_another_bank(
    bank: Bank, tmp_path: Path
) -> None:
    bank.export(tmp_path / "bundle", for_import=True)
    rows = [Row(text) for text in ASKED]
    for found, wanted in zip(
        load_bundle(tmp_path / "bundle").predict(rows), bank.predict(rows), strict=True
    ):
        assert (found.expert, found.scores) == (wanted.expert, wanted.scores)
    with Bank.open(tmp_path / "other") as other:
        other.import_bundle(tmp_path / "bundle")
        (expert,) = other.experts("films")
        config = other.registry.run(expert.run_id).config
        assert config["peft"]["head"] == "saved", "where it first came from is still told"
        assert config["imported"]["expert"] == "films@1"


def test_exported_again_the_readmes_lines_answer_with_the_same_head(
    bank: Bank, tmp_path: Path, backbone_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.export(tmp_path / "peft", format="peft")
    for task in ("films", "games"):
        folder = tmp_path / "peft" / task
        (folder / "backbone").symlink_to(backbone_folder("bert"))
        (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
        names: dict[str, Any] = {}
        monkeypatch.chdir(folder)
        exec(compile(code, "README.md", "exec"), names)
        wanted = bank.predict([Row(ASKED[0])], task=task)[0].scores
        assert names["answer"](ASKED[0]) == pytest.approx(wanted, abs=1e-5)
    with Bank.open(tmp_path / "other", backbone=str(backbone_folder("bert"))) as other:
        other.init(max_length=32, route_layer=2)
        data = write_task(tmp_path / "films.csv", "films")
        done = other.import_peft(tmp_path / "peft" / "films", "films", data=data)
        assert done.origin["head"] == done.origin["labels"] == "export"
        rows = [Row(text) for text in ASKED]
        both = (one.predict(rows, task="films") for one in (bank, other))
        for found, expected in zip(*both, strict=True):
            assert found.scores == pytest.approx(expected.scores, abs=1e-5)


def test_a_head_is_fitted_beside_the_one_that_came_where_that_is_asked_for(
    made: Path, tmp_path: Path, backbone_folder: Any
) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(backbone_folder("bert"))) as bank:
        bank.init(max_length=32, route_layer=1)
        data = write_task(tmp_path / "films.csv", "films")
        done = bank.import_peft(made / "films", "films", data=data, fit_head=True)
        again = bank.import_peft(
            made / "films", "films", data=data, fit_head=True, new_version=True
        )
    assert done.origin["head"] == "fitted"
    assert done.added.metrics["accuracy"] >= 0.75
    assert done.added.expert.digest == again.added.expert.digest, "the same seed, the same bytes"


def test_a_change_that_a_fitted_head_does_not_read_is_said_to_be_left_out(
    tmp_path: Path, backbone_folder: Any
) -> None:
    backbone = backbone_folder("bert")
    wish = {"target_modules": ["dense"], "layers_to_transform": None}
    peft_made.saved(tmp_path / "adapter", backbone, **wish)
    with Bank.open(tmp_path / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=32, route_layer=0)
        data = write_task(tmp_path / "films.csv", "films")
        done = bank.import_peft(tmp_path / "adapter", "films", data=data, fit_head=True)
    told = " ".join(done.added.warnings)
    assert "pooler is left out" in told
    assert "head that it brought is left out" in told


@pytest.mark.parametrize(
    ("family", "beside"),
    [("roberta", "classifier.dense"), ("modernbert", "head.dense")],
)
def test_modules_that_only_the_wrapped_model_has_are_neither_missed_nor_taken_for_strangers(
    family: str, beside: str, tmp_path: Path, backbone_folder: Any
) -> None:
    backbone = backbone_folder(family)
    wish = {"target_modules": "all-linear", "layers_to_transform": None}
    peft_made.saved(tmp_path / "adapter", backbone, **wish)
    held = read_peft_folder(tmp_path / "adapter").factors.keys()
    data = write_task(tmp_path / "films.csv", "films")
    with Bank.open(tmp_path / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=32, route_layer=0)
        if beside in held:
            named = TASKS["films"][0]
            with pytest.raises(InputError, match=f"adapts {beside}.*--fit-head"):
                bank.import_peft(tmp_path / "adapter", "films", data=data, labels=named)
        done = bank.import_peft(tmp_path / "adapter", "films", data=data, fit_head=True)
    told = " ".join(done.added.warnings)
    assert (f"{beside} is left out" in told) == (beside in held)


@pytest.mark.parametrize(("route_layer", "lowest"), [(2, 0), (0, 0), (1, 2)])
def test_an_adapter_answers_as_with_peft_wherever_it_begins_and_the_bank_routes(
    tmp_path: Path, backbone_folder: Any, route_layer: int, lowest: int
) -> None:
    backbone = backbone_folder("bert")
    wish = {"target_modules": ["query", "value"]}
    wish["layers_to_transform"] = list(range(lowest, 4)) if lowest else None
    _, model = peft_made.saved(tmp_path / "deep", backbone, **wish)
    data = write_task(tmp_path / "films.csv", "films")
    named = {"data": data, "labels": TASKS["films"][0]}
    with Bank.open(tmp_path / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=32, route_layer=route_layer)
        done = bank.import_peft(tmp_path / "deep", "films", **named)
        told = "layers from 0 on, and the router reads what goes into layer 2"
        assert (told in " ".join(done.added.warnings)) == (route_layer == 2)
        assert done.added.adapter.first_layer == (None if lowest == route_layer else lowest)
        found = bank.predict([Row(text) for text in ASKED], task="films")
    scores = torch.tensor([[line.scores[one] for one in TASKS["films"][0]] for line in found])
    wanted = peft_made.logits(model, backbone, ASKED).softmax(1)
    assert torch.allclose(scores, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_heads_of_other_kinds_answer_as_with_peft(
    kind: str, tmp_path: Path, backbone_folder: Any
) -> None:
    backbone, labels = backbone_folder("bert"), TASKS["films"][0]
    several = kind == "multi_label"
    _, model = peft_made.saved(tmp_path / "adapter", backbone, 2 if several else 1, **QUERY_VALUE)
    rows = task_rows("films", 60)
    lines = [f"{text},{label if several else len(text)}" for text, label in rows]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]))
    task = TaskSpec("marks", kind)
    wish: dict[str, Any] = {"data": tmp_path / "rows.csv"}
    with Bank.open(tmp_path / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=32, route_layer=2)
        if several:
            with pytest.raises(InputError, match="--labels"):
                bank.import_peft(tmp_path / "adapter", task, **wish)
            wish["labels"] = labels
        bank.import_peft(tmp_path / "adapter", task, **wish)
        found = bank.predict([Row(text) for text in ASKED], task="marks")
    wanted = peft_made.logits(model, backbone, ASKED)
    if several:
        scores = torch.tensor([[line.scores[label] for label in labels] for line in found])
        assert torch.allclose(scores, wanted.sigmoid(), rtol=0, atol=1e-5)
        assert found[0].thresholds is not None
    else:
        values = torch.tensor([float(line.label or 0) for line in found])
        assert torch.allclose(values, wanted[:, 0], rtol=1e-5, atol=1e-5)


def test_a_head_that_was_lost_is_fitted_and_its_loss_is_told(own: Path) -> None:
    """PEFT leaves it out as it makes a plain LoRA of PiSSA's and its like."""
    rewritten(own / "films", lambda t: [t.pop(name) for name in list(t) if "lora" not in name])
    done = import_films(own)
    assert done.origin["head"] == "fitted"
    lost = [text for text in done.added.warnings if "classifier, score" in text]
    assert len(lost) == 1
    assert "is lost, and another one is fitted" in lost[0]


def test_an_encoder_of_a_model_with_a_decoder_comes_in_and_its_decoder_is_told_in_short(
    tmp_path: Path, backbone_folder: Any
) -> None:
    from transformers import AutoModelForSeq2SeqLM

    backbone = backbone_folder("t5")
    outer = AutoModelForSeq2SeqLM.from_pretrained(backbone).eval()
    wish = {"task_type": "SEQ_2_SEQ_LM", "target_modules": ["q", "v"]}
    peft_made.wrapped(outer, **wish).save_pretrained(tmp_path / "adapter")
    data = write_task(tmp_path / "films.csv", "films")
    with Bank.open(tmp_path / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=32, route_layer=0)
        with pytest.raises(InputError, match=r"a head or a decoder.*--fit-head"):
            bank.import_peft(tmp_path / "adapter", "films", data=data)
        done = bank.import_peft(tmp_path / "adapter", "films", data=data, fit_head=True)
    left = [text for text in done.added.warnings if "its change of" in text]
    assert len(left) == 1
    assert re.search(r"decoder\S+, \S+, \S+ and \d+ more is left out", left[0])


def test_a_file_in_place_of_the_folder_is_called_one(own: Path) -> None:
    (own / "films").rename(own / "there")
    (own / "there" / "adapter_model.safetensors").rename(own / "films")
    refuses(own, "is a file; name the folder", NotFoundError)


def test_an_adapter_of_a_language_model_gets_a_head(tmp_path: Path, backbone_folder: Any) -> None:
    from transformers import AutoModelForCausalLM

    backbone = backbone_folder("llama")
    outer = AutoModelForCausalLM.from_pretrained(backbone).eval()
    names = {"target_modules": ["q_proj", "v_proj", "down_proj"], **peft_made.LAYERS}
    peft_made.wrapped(outer, task_type="CAUSAL_LM", **names).save_pretrained(tmp_path / "adapter")
    data = write_task(tmp_path / "films.csv", "films")
    with Bank.open(tmp_path / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=32, route_layer=2)
        done = bank.import_peft(tmp_path / "adapter", "films", data=data)
    assert done.origin["head"] == "fitted"
    assert done.added.adapter.pooling == "last"
    assert done.added.adapter.modules == ("mlp.down_proj", "self_attn.q_proj", "self_attn.v_proj")


def test_a_head_that_passes_over_the_token_which_ends_every_text_is_refused_and_fitted_anew(
    tmp_path: Path, backbone_folder: Any
) -> None:
    """transformers reads the last token that is no pad token, and that ends each text here."""
    folder = tmp_path / "backbone"
    shutil.copytree(backbone_folder("llama"), folder)
    for name, told in (
        ("config.json", {"pad_token_id": 3}),
        ("tokenizer_config.json", {"pad_token": "[SEP]"}),
    ):
        held = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**held, **told}))
    wish = {"target_modules": ["q_proj", "v_proj"], **peft_made.LAYERS}
    peft_made.saved(tmp_path / "adapter", folder, **wish)
    request = {"data": write_task(tmp_path / "films.csv", "films"), "labels": TASKS["films"][0]}
    with Bank.open(tmp_path / "bank", backbone=str(folder)) as bank:
        bank.init(max_length=32, route_layer=2)
        with pytest.raises(InputError, match=r"ends every text with '\[SEP\]'.*--fit-head"):
            bank.import_peft(tmp_path / "adapter", "films", **request)
        done = bank.import_peft(tmp_path / "adapter", "films", **request, fit_head=True)
    assert done.origin["head"] == "fitted"


# -- labels ----------------------------------------------------------------------------------


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the films adapter, its data, and a bank that has a backbone alone."""
    shutil.copytree(made / "films", tmp_path / "films")
    shutil.copy(made / "films.csv", tmp_path / "films.csv")
    shutil.copy(made / "laws.csv", tmp_path / "laws.csv")
    shutil.copytree(made / "empty", tmp_path / "bank")
    return tmp_path


def import_films(folder: Path, **options: Any) -> Any:
    with Bank.open(folder / "bank") as bank:
        wish = {"data": folder / "films.csv", **options}
        return bank.import_peft(folder / "films", "films", **wish)


def write_names(folder: Path, *names: str) -> None:
    named = {str(place): name for place, name in enumerate(names)}
    (folder / "films" / "config.json").write_text(json.dumps({"id2label": named}))


def test_labels_of_the_configuration_stand_in_the_heads_order_whatever_the_rows_order_is(
    own: Path,
) -> None:
    flipped(own, "classifier")
    write_names(own, "good", "bad")
    done = import_films(own)
    assert done.added.expert.labels == ("good", "bad")
    assert done.added.metrics["accuracy"] >= 0.75
    assert done.origin["labels"] == "config"


def test_an_order_that_nobody_told_and_the_rows_contradict_is_refused_with_the_better_one(
    own: Path,
) -> None:
    flipped(own, "classifier")
    with pytest.raises(InputError, match=r"in the order good, bad.*--labels"):
        import_films(own)
    done = import_films(own, labels=("good", "bad"))
    assert done.origin["labels"] == "given"
    assert done.added.metrics["accuracy"] >= 0.75


def test_labels_that_were_told_and_fit_better_otherwise_are_remarked_on(own: Path) -> None:
    done = import_films(own, labels=("good", "bad"))
    assert any("in the order bad, good" in text for text in done.added.warnings)
    assert done.added.metrics["accuracy"] < 0.5


def test_names_that_nobody_gave_say_nothing(own: Path) -> None:
    write_names(own, "LABEL_0", "LABEL_1")
    assert import_films(own).origin["labels"] == "data"


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("bad", "good", "odd"), "2 outputs.*3 labels"),
        (("no", "yes"), r"unknown label 'bad'"),
        (("bad", "bad"), "repeated"),
    ],
)
def test_labels_that_do_not_fit_are_refused(own: Path, names: tuple[str, ...], match: str) -> None:
    refuses(own, match, labels=names)


def test_rows_with_more_labels_than_the_head_has_are_refused(own: Path) -> None:
    rows = task_rows("films", 60)
    lines = [f"{text},{label if place % 3 else 'odd'}" for place, (text, label) in enumerate(rows)]
    (own / "films.csv").write_text("\n".join(["text,label", *lines]))
    refuses(own, "2 outputs.*3 labels")


def flipped(folder: Path, head: str) -> None:
    """Exchange the outputs of the saved head."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            if f".{head}." in name:
                tensors[name] = tensors[name].flip(0).contiguous()

    rewritten(folder / "films", change)


# -- what is refused ---------------------------------------------------------------------------


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: one.contiguous() for name, one in tensors.items()}, path)


def configured(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def refuses(
    folder: Path, match: str, error: type[ExpertBankError] = InputError, **options: Any
) -> None:
    before = content(folder)
    with pytest.raises(error, match=match):
        import_films(folder, **options)
    assert content(folder) == before


PATH = "base_model.model.bert.encoder.layer.2.attention.self.query"


def put(name: str, tensor: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: rewritten(folder, lambda tensors: tensors.update({name: tensor}))


def each(change: Callable[[str, torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def all_of(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: change(name, one) for name, one in tensors.items()})

    return lambda folder: rewritten(folder, all_of)


def only_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"trap": torch.ones(1)}, folder / "adapter_model.bin")


def renamed(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def several(folder: Path) -> None:
    """As PEFT saves adapters that have names: each in a folder of its own."""
    for name in ("first", "second"):
        (folder / name).mkdir()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(folder / file, folder / name)
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_model.safetensors").unlink()


def cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


BAD: dict[str, tuple[Callable[[Path], object], type[ExpertBankError], str]] = {
    "dora": (lambda f: configured(f, use_dora=True), InputError, "DoRA"),
    "dora's tensors": (put(f"{PATH}.lora_magnitude_vector", torch.ones(32)), InputError, "DoRA"),
    "biases": (
        put("base_model.model.bert.encoder.layer.2.output.dense.bias", torch.ones(32)),
        InputError,
        "biases",
    ),
    "embeddings": (
        put("base_model.model.bert.embeddings.word_embeddings.weight", torch.ones(39, 32)),
        InputError,
        "embeddings",
    ),
    "a pickle": (only_pickle, InputError, "never opened"),
    "embeddings that were saved untrained": (
        put("base_model.model.bert.embeddings.word_embeddings.weight", torch.ones(39, 32)),
        InputError,
        "save_embedding_layers=False",
    ),
    "a language model's head that is adapted": (
        put("base_model.model.lm_head.base_layer.weight", torch.ones(39, 32)),
        InputError,
        "save_embedding_layers=False",
    ),
    "a head for every token": (
        lambda f: configured(f, task_type="TOKEN_CLS"),
        InputError,
        "for every token.*--fit-head",
    ),
    "a start that PEFT can convert": (
        lambda f: configured(f, init_lora_weights="pissa_niter_4"),
        InputError,
        "path_initial_model_for_weight_conversion",
    ),
    "a start that PEFT cannot convert": (
        lambda f: configured(f, init_lora_weights="loftq"),
        InputError,
        "'loftq', which changes the base's weights as training begins; train it again",
    ),
    "a rank by a regular expression": (
        lambda f: configured(f, rank_pattern={r"layer\.[23].*query": 4}),
        InputError,
        "rank_pattern has .*a regular expression.*names of the modules",
    ),
    "an alpha by a regular expression": (
        lambda f: configured(f, alpha_pattern={"query|value": 4}),
        InputError,
        "alpha_pattern has .*a regular expression.*names of the modules",
    ),
    "names of a model's state": (
        lambda f: rewritten(f, renamed("base_model.model.", "")),
        InputError,
        r"save_pretrained\(\) writes",
    ),
    "names with an adapter's name": (
        lambda f: rewritten(f, renamed("_A.weight", "_A.default.weight")),
        InputError,
        r"save_pretrained\(\) writes",
    ),
    "several adapters": (
        several,
        NotFoundError,
        "name one of its folders: first, second",
    ),
    "a whole model": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "model.safetensors"),
        InputError,
        "a whole model.*before merge_and_unload",
    ),
    "half a pair": (
        lambda f: rewritten(f, lambda t: t.pop(f"{PATH}.lora_B.weight")),
        InputError,
        "not whole",
    ),
    "a module's pair missing": (
        lambda f: rewritten(f, lambda t: [t.pop(f"{PATH}.lora_{x}.weight") for x in "AB"]),
        InputError,
        "holds no factors",
    ),
    "a module more": (
        lambda f: configured(f, target_modules=["query"]),
        InputError,
        "does not name",
    ),
    "an odd tensor": (put("base_model.model.odd", torch.ones(2)), InputError, "neither LoRA"),
    "no number": (
        each(lambda name, one: one * float("nan") if "layer.3" in name else one),
        InputError,
        "not finite",
    ),
    "whole numbers": (
        put(f"{PATH}.lora_A.weight", torch.ones(4, 32, dtype=torch.int32)),
        InputError,
        "floating",
    ),
    "another rank": (lambda f: configured(f, r=8), InputError, "rank 4, and 8"),
    "another width": (
        each(lambda name, one: one[..., :16] if "lora_A" in name else one),
        InputError,
        "16 by 32 there and 32 by 32",
    ),
    "another model": (
        lambda f: rewritten(
            f,
            lambda t: [
                t.update({name.replace("encoder.layer", "h"): t.pop(name)})
                for name in list(t)
                if "lora_" in name
            ],
        ),
        InputError,
        "another model",
    ),
    "a cut file": (cut, IntegrityError, "not a safetensors file"),
    "no file": (lambda f: (f / "adapter_config.json").unlink(), NotFoundError, "adapter_config"),
    "no json": (lambda f: (f / "adapter_config.json").write_text("{"), InputError, "not JSON"),
    "names twice": (
        lambda f: (f / "config.json").write_text(json.dumps({"id2label": {"0": "a", "1": "a"}})),
        InputError,
        "id2label",
    ),
    "a head of another width": (
        each(lambda name, one: one[:, :16] if name.endswith("classifier.weight") else one),
        InputError,
        "does not read the 32 numbers",
    ),
    "another head": (
        each(lambda name, one: one),
        InputError,
        "--fit-head",
    ),
    "a part of the base": (
        lambda f: (
            configured(f, modules_to_save=["classifier", "LayerNorm"]),
            put("base_model.model.bert.encoder.layer.2.output.LayerNorm.weight", torch.ones(32))(f),
        ),
        InputError,
        "as a whole",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_an_expert_is_refused_by_name_and_the_bank_is_as_it_was(
    name: str, own: Path
) -> None:
    spoil, error, match = BAD[name]
    spoil(own / "films")
    if name == "another head":
        rewritten(
            own / "films",
            lambda t: t.update({"base_model.model.classifier.more": torch.ones(2)}),
        )
    refuses(own, match, error)


@pytest.mark.parametrize(
    ("told", "refused", "remarks"),
    [
        ("org/tiny", False, 0),
        ("ORG/tiny", False, 0),
        ("org/other", True, 0),
        ("/somewhere/else", False, 1),
        ("", False, 1),
    ],
)
def test_a_base_of_another_name_is_refused_unless_the_user_knows_better(
    own: Path, named_backbone: Backbone, told: str, refused: bool, remarks: int
) -> None:
    configured(own / "films", base_model_name_or_path=told)
    found = read_peft_folder(own / "films")
    if refused:
        with pytest.raises(InputError, match=r"org/other.*org/tiny.*--same-base"):
            require_base(found, named_backbone, same=False)
    said = require_base(found, named_backbone, same=refused)
    assert len(said) == remarks
    assert all("does not show whether it is this backbone" in text for text in said)


def test_an_export_of_another_backbones_bank_is_refused_by_its_digest(
    bank: Bank, own: Path
) -> None:
    from safetensors.torch import load_file

    from expertbank.files.tensors import read_safetensors, write_safetensors

    bank.export(own / "peft", format="peft", tasks=("films",))
    shutil.rmtree(own / "films")
    shutil.copytree(own / "peft" / "films", own / "films")
    path = own / "films" / "head.safetensors"
    _, about = read_safetensors(path.read_bytes(), "head")
    path.write_bytes(write_safetensors(load_file(path), {**about, "backbone_digest": "0" * 64}))
    refuses(own, "only works on the weights", IntegrityError)


def test_a_second_expert_of_a_task_needs_new_version(own: Path) -> None:
    import_films(own)
    refuses(own, "--new-version", ExistsError)
