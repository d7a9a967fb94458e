"""Which backbone this is: same files, same digest; other files, another, or a refusal."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import DEPTH

from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.identity import Identity
from expertbank.errors import ExpertBankError, InputError, IntegrityError, SourceUnavailableError

WEIGHT = "encoder.layer.3.attention.self.query.weight"
RAN: list[str] = []


def ran() -> str:
    RAN.append("code from a file")
    return "canary"


class Canary:
    def __reduce__(self) -> tuple[Callable[[], str], tuple[()]]:
        return ran, ()


@pytest.fixture
def copy(backbone_folder, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a tiny backbone's folder that a test may change."""
    return lambda family: shutil.copytree(backbone_folder(family), tmp_path / family)


@pytest.fixture
def folder(copy) -> Path:
    return copy("bert")


def digest(folder: Path) -> str:
    return load_backbone(str(folder), device="cpu").digest


def edit_json(path: Path, edit: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_copies_of_a_folder_are_the_same_backbone(bert, folder: Path) -> None:
    assert digest(folder) == bert.digest


def test_one_changed_weight_is_another_backbone(bert, folder: Path) -> None:
    def nudge(weights: dict[str, torch.Tensor]) -> None:
        weights[WEIGHT][0, 0] = torch.nextafter(weights[WEIGHT][0, 0], torch.tensor(9.0))

    edit_weights(folder, nudge)
    assert digest(folder) != bert.digest


def states(folder: Path) -> torch.Tensor:
    """What the backbone computes for sixteen words and some padding."""
    model = load_backbone(str(folder), device="cpu").model
    ids = torch.tensor([[2, *range(4, 18), 3, 0, 1]])
    mask = (torch.arange(18) < 16).long().unsqueeze(0)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :16]


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("bert", "num_attention_heads", 2),
        ("bert", "hidden_act", "relu"),
        ("bert", "layer_norm_eps", 1e-5),
        ("bert", "is_decoder", True),
        ("roberta", "pad_token_id", 0),
        ("llama", "rope_theta", 5e5),
        ("mistral", "sliding_window", 8),
        ("llama", "rms_norm_eps", 1e-5),
        ("gemma2", "attn_logit_softcapping", 1.0),
        ("gemma2", "query_pre_attn_scalar", 64),
        ("gemma2", "layer_types", ["full_attention"] * 4),
        ("gemma2", "hidden_activation", "relu"),
        ("gemma3_text", "use_bidirectional_attention", True),
        ("modernbert", "local_attention", 4),
        ("modernbert", "layer_types", ["full_attention"] * 4),
        ("modernbert", "norm_eps", 1e-2),
        ("gpt2", "activation_function", "relu"),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "layer_norm_epsilon", 1e-2),
        ("gpt_neox", "use_parallel_residual", False),
        ("bloom", "apply_residual_connection_post_layernorm", True),
        ("opt", "activation_function", "gelu"),
        ("falcon with a key a head", "alibi", False),
        ("deberta-v2", "pos_att_type", ["c2p"]),
        ("deberta-v2", "norm_rel_ebd", "none"),
        ("phi3", "sliding_window", 3),
    ],
)
def test_an_architecture_field_that_changes_outputs_changes_the_digest(
    copy, family: str, field: str, value: object
) -> None:
    folder = copy(family)
    before = digest(folder)
    fields = {field: value}
    if field == "rope_theta":  # where transformers 5 keeps it
        fields["rope_parameters"] = {"rope_theta": value, "rope_type": "default"}
    plain = states(folder)
    edit_json(folder / "config.json", lambda config: config.update(fields))
    assert digest(folder) != before
    assert not torch.equal(states(folder), plain), "and it does change outputs"


def test_fields_of_other_families_do_not_enter_a_berts_identity(bert) -> None:
    """Else a new family's fields would make another backbone of every BERT in use."""
    assert set(bert.identity.config) == {
        *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads"),
        *("intermediate_size", "hidden_act", "layer_norm_eps", "max_position_embeddings"),
        *("type_vocab_size", "vocab_size", "pad_token_id"),
    }


def test_a_changed_tokenizer_is_another_backbone(bert, folder: Path) -> None:
    def swap(content: dict) -> None:
        words = content["model"]["vocab"]
        words["sky"], words["blue"] = words["blue"], words["sky"]

    edit_json(folder / "tokenizer.json", swap)
    assert digest(folder) != bert.digest


def test_a_tokenizers_last_padding_and_truncation_do_not_matter(bert, folder: Path) -> None:
    tokenizer = bert.tokenizer
    tokenizer(["is the sky", "blue"], padding="max_length", truncation=True, max_length=8)
    tokenizer.save_pretrained(folder)
    stored = json.loads((folder / "tokenizer.json").read_text())
    assert stored["padding"] is not None
    assert stored["truncation"] is not None
    assert digest(folder) == bert.digest


def test_fields_that_change_nothing_do_not_change_the_digest(bert, folder: Path) -> None:
    edit_json(
        folder / "config.json",
        lambda config: config.update(_name_or_path="elsewhere", transformers_version="4.0"),
    )
    assert digest(folder) == bert.digest


def test_a_known_identity_is_taken_instead_of_reading_all_weights(folder: Path) -> None:
    known = Identity("a" * 64, "b" * 64, {"model_type": "bert"})
    assert (
        load_backbone(str(folder), device="cpu", known=lambda place: known).digest == known.digest
    )


def test_a_loaded_backbone_is_frozen_and_in_eval_mode(bert) -> None:
    assert not any(module.training for module in bert.model.modules())
    assert not any(parameter.requires_grad for parameter in bert.model.parameters())


def test_a_checkpoint_without_a_pooler_is_the_same_backbone(bert, folder: Path) -> None:
    edit_weights(folder, lambda w: [w.pop(name) for name in list(w) if name.startswith("pooler.")])
    state = torch.random.get_rng_state()
    assert digest(folder) == bert.digest
    assert torch.equal(state, torch.random.get_rng_state()), "filled in without global randomness"


def test_missing_weights_are_refused_by_name(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.pop(WEIGHT))
    with pytest.raises(IntegrityError, match=WEIGHT):
        load_backbone(str(folder))


@pytest.mark.parametrize("kind", ["plain pickle", "torch.save"])
def test_a_pickle_is_refused_without_being_opened(folder: Path, kind: str) -> None:
    (folder / "model.safetensors").unlink()
    pickled = folder / "pytorch_model.bin"
    if kind == "plain pickle":
        pickled.write_bytes(pickle.dumps(Canary()))
    else:
        torch.save({"weight": Canary()}, pickled)
    RAN.clear()
    with pytest.raises(SourceUnavailableError, match="safetensors"):
        load_backbone(str(folder))
    assert RAN == []
    pickle.loads(pickle.dumps(Canary()))
    assert RAN, "the canary does sing when it is opened"


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_code_in_a_folder_is_neither_run_nor_asked_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    marker = folder / "ran"
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass C: pass\n")
    edit_json(
        folder / "config.json",
        lambda config: config.update(
            model_type="unheard-of", auto_map={"AutoConfig": "code.C", "AutoModel": "code.C"}
        ),
    )
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or answer)
    with pytest.raises(SourceUnavailableError):
        load_backbone(str(folder))
    assert asked == []
    assert not marker.exists()


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated weights": lambda folder: damaged(folder / "model.safetensors"),
    "weights that are something else": lambda folder: (folder / "model.safetensors").write_bytes(
        b"PK\x03\x04" * 200
    ),
    "a weight of another shape": lambda folder: edit_weights(
        folder, lambda weights: weights.update({WEIGHT: torch.zeros(3, 3)})
    ),
    "truncated config": lambda folder: damaged(folder / "config.json"),
    "a config that is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "truncated tokenizer": lambda folder: damaged(folder / "tokenizer.json"),
    "an empty tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "no tokenizer": lambda folder: [path.unlink() for path in folder.glob("tokenizer*")],
    "an empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused_with_one_of_our_errors(folder: Path, damage: str) -> None:
    DAMAGES[damage](folder)
    with pytest.raises(ExpertBankError, match="backbone"):
        load_backbone(str(folder))


def test_a_folder_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_backbone(str(tmp_path / "nothing"))


def test_the_default_spec_routes_at_a_third_of_the_depth(bert, load_tiny) -> None:
    spec = bert.default_feature_spec(max_length=32)
    assert (spec.route_layer, spec.states, spec.poolings) == (1, (0, 1), ("mean", "last"))
    assert spec.backbone_digest == bert.digest
    assert load_tiny("llama").default_feature_spec(max_length=32).poolings == ("mean", "last")


@pytest.mark.parametrize("layer", [DEPTH, -1])
def test_a_route_layer_that_leaves_no_branch_is_refused(bert, layer: int) -> None:
    with pytest.raises(InputError, match="between 1 and 3"):
        bert.default_feature_spec(route_layer=layer, max_length=32)


def test_a_backbone_of_one_layer_has_no_trunk_and_is_run_twice_where_that_is_asked_for(
    copy,
) -> None:
    folder = copy("bert")
    edit_json(folder / "config.json", lambda config: config.update(num_hidden_layers=1))
    backbone = load_backbone(str(folder), device="cpu")
    for layer in (None, 1):
        with pytest.raises(InputError, match=r"has one layer.*--route-layer 0"):
            backbone.default_feature_spec(route_layer=layer, max_length=32)
    assert backbone.default_feature_spec(route_layer=0, max_length=32).route_layer == 0


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "xlm-roberta", "camembert"])
def test_the_longest_length_offered_can_be_read_and_one_more_is_refused(
    load_tiny, family: str
) -> None:
    backbone = load_tiny(family)
    longest = backbone.longest_sequence
    assert longest is not None
    backbone.default_feature_spec(max_length=longest)
    with pytest.raises(InputError, match="exceeds"):
        backbone.default_feature_spec(max_length=longest + 1)
    ids = torch.full((1, longest), 7)
    backbone.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    longer = torch.full((1, longest + 1), 7)
    with pytest.raises((IndexError, RuntimeError)):
        backbone.model(input_ids=longer, attention_mask=torch.ones_like(longer))
