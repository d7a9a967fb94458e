"""A bank knows its backbone again: from the Hub, from before, hashed anew, and only that one."""

from __future__ import annotations

import gc
import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from expertbank_sample.mpnet import MPNET
from hub_cache import ONE, TWO, as_sentence_transformer, put
from huggingface_hub import constants
from small_bank import add, texts

from expertbank import AdapterConfig, Bank, load_bundle
from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.families import FAMILIES
from expertbank.backbones.identity_v1 import architecture_of, digest_v1
from expertbank.errors import IntegrityError, SourceUnavailableError
from expertbank.records import BackboneRecord, ProgressEvent, Row
from expertbank.workflows import digest_cache
from expertbank.workflows.digest_cache import DIGEST_CACHE, DigestCache
from expertbank.workflows.home import FolderHome

NAMED = AdapterConfig(modules=("attention.attn.q",))


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(FAMILIES, "_loaded", dict(FAMILIES._loaded))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub's client."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A BERT with other weights."""
    return tiny.build(tmp_path / "other", "bert", seed=1)


def rows(count: int) -> list[Row]:
    return [Row(text) for text in texts(count)]


def edit_config(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


# -- from the Hub --------------------------------------------------------------------------


def test_a_folder_and_the_hubs_snapshot_of_it_are_one_backbone(
    cache: Path, own_backbone: Path
) -> None:
    folder = load_backbone(str(own_backbone), device="cpu")
    snapshot = put(cache, "org/tiny", ONE, as_sentence_transformer(own_backbone))
    hub = load_backbone("org/tiny", device="cpu")
    assert (hub.digest, hub.place.path, hub.place.revision) == (folder.digest, snapshot, ONE)
    assert folder.place.revision is None


def test_the_commit_is_recorded_and_asked_for_whatever_the_name_comes_to_mean(
    cache: Path, own_backbone: Path, other: Path, tmp_path: Path
) -> None:
    put(cache, "org/tiny", ONE, own_backbone)
    with Bank.open(tmp_path / "bank", backbone="org/tiny") as bank:
        add(bank, "films", tmp_path)
        add(bank, "laws", tmp_path)
        bank.retrain_router()
        assert bank.backbone().revision == ONE
        before = bank.predict(texts(4))
        bank.export(tmp_path / "bundle")
    put(cache, "org/tiny", TWO, other)
    assert load_backbone("org/tiny", device="cpu").place.revision == TWO
    with Bank.open(tmp_path / "bank") as bank:
        assert bank.predict(texts(4)) == before
        found = {one.subject: one for one in bank.doctor().findings}["backbone"]
        assert found.state == "ok"
        assert f"commit {ONE}, digest as recorded" in found.found
    told = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["backbone"]
    assert (told["reference"], told["revision"]) == ("org/tiny", ONE)
    assert list(load_bundle(tmp_path / "bundle").predict(rows(4))) == before
    moved = Bank.open(tmp_path / "bank", backbone=f"org/tiny@{TWO}")
    with moved as bank, pytest.raises(IntegrityError, match="is not the backbone of"):
        bank.predict(texts(1))


def test_a_revision_can_be_named_and_is_kept_with_the_name(
    cache: Path, own_backbone: Path, other: Path, tmp_path: Path
) -> None:
    put(cache, "org/tiny", ONE, own_backbone, "v1")
    put(cache, "org/tiny", TWO, other)
    with Bank.open(tmp_path / "bank", backbone="org/tiny@v1") as bank:
        record = bank.init()
    assert (record.reference, record.revision) == ("org/tiny@v1", ONE)
    assert record.digest == load_backbone(str(own_backbone), device="cpu").digest


def test_a_commit_that_is_gone_is_named_with_the_one_that_is_there(
    cache: Path, own_backbone: Path, other: Path, tmp_path: Path
) -> None:
    gone = put(cache, "org/tiny", ONE, own_backbone)
    with Bank.open(tmp_path / "bank", backbone="org/tiny") as bank:
        bank.init()
    put(cache, "org/tiny", TWO, other)
    shutil.rmtree(gone)
    with Bank.open(tmp_path / "bank") as bank:
        with pytest.raises(SourceUnavailableError, match=f"commit {ONE}.*there is commit {TWO}"):
            add(bank, "films", tmp_path)
        found = {one.subject: one for one in bank.doctor().findings}["backbone"]
        assert (found.state, ONE in found.found, TWO in found.found) == ("warning", True, True)


def test_a_bank_of_a_folder_moves_to_the_hubs_copy_and_back(
    cache: Path, own_backbone: Path, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(own_backbone)) as bank:
        add(bank, "films", tmp_path)
        before = bank.predict(texts(3), task="films")
        assert bank.backbone().revision is None
    put(cache, "org/tiny", ONE, own_backbone)
    with Bank.open(tmp_path / "bank", backbone="org/tiny") as bank:
        assert bank.predict(texts(3), task="films") == before
        assert bank.backbone().revision is None, "it is the folder that is recorded"


# -- remembered and hashed anew ------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders whose files were read in full, in order."""
    from expertbank.backbones import backbone, identity

    done: list[Path] = []
    plain = identity.identity_of

    def told(folder: Path):
        done.append(folder)
        return plain(folder)

    monkeypatch.setattr(backbone, "identity_of", told)
    monkeypatch.setattr(identity, "identity_of", told)
    return done


def test_a_snapshot_is_hashed_once_and_again_when_asked_to(
    cache: Path, own_backbone: Path, tmp_path: Path, hashed: list[Path]
) -> None:
    snapshot = put(cache, "org/tiny", ONE, own_backbone)
    with Bank.open(tmp_path / "bank", backbone="org/tiny") as bank:
        add(bank, "films", tmp_path)
    assert hashed == [snapshot]
    with Bank.open(tmp_path / "bank") as bank:
        bank.predict(texts(1), task="films")
        assert hashed == [snapshot]
        bank.doctor()
        assert hashed == [snapshot]
        found = {one.subject: one for one in bank.doctor(rehash=True).findings}["backbone"]
        assert "hashed now" in found.found
        bank.forgetting_report(verify=True)
        assert hashed == [snapshot] * 3


def test_a_file_changed_in_place_is_hashed_again_and_refused(
    own_backbone: Path, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(own_backbone)) as bank:
        add(bank, "films", tmp_path)
    entry = DigestCache(tmp_path / "bank" / DIGEST_CACHE)
    assert entry.find(own_backbone) is not None
    edit_config(own_backbone, layer_norm_eps=1e-3)
    assert entry.find(own_backbone) is None
    with Bank.open(tmp_path / "bank") as bank, pytest.raises(IntegrityError, match="expected"):
        bank.predict(texts(1), task="films")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"/x": "0.1"}', '{"/x": {"files": []}}', "\x00", "{" * 9999]
)
def test_a_damaged_cache_or_one_of_before_means_that_nothing_is_known(
    own_backbone: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / DIGEST_CACHE
    path.write_text(text)
    cache = DigestCache(path)
    assert cache.find(own_backbone) is None
    identity = load_backbone(str(own_backbone), device="cpu").identity
    cache.remember(own_backbone, identity)
    assert digest_cache.DigestCache(path).find(own_backbone) == identity


def living() -> int:
    """How many models there are in memory."""
    from transformers import PreTrainedModel

    gc.collect()
    return sum(isinstance(one, PreTrainedModel) for one in gc.get_objects())


def test_verifying_after_a_prediction_holds_one_backbone(
    own_backbone: Path, tmp_path: Path
) -> None:
    before, seen = living(), []
    with Bank.open(tmp_path / "bank", backbone=str(own_backbone)) as bank:
        add(bank, "films", tmp_path)
        bank.retrain_router()
        bank.predict(texts(3))
        alone = living() - before

        def progress(event: ProgressEvent) -> None:
            seen.append(living() - before)

        bank.forgetting_report(verify=True, progress=progress)
        assert seen
        assert set(seen) == {alone}
        assert bank.predict(texts(3))
        assert living() - before == alone


def test_verifying_finds_files_that_changed_after_they_were_loaded(
    own_backbone: Path, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(own_backbone)) as bank:
        add(bank, "films", tmp_path)
        bank.predict(texts(1), task="films")
        edit_config(own_backbone, layer_norm_eps=1e-3)
        with pytest.raises(IntegrityError, match="now"):
            bank.forgetting_report(verify=True)


# -- banks and bundles of expertbank 0.1 ---------------------------------------------------


def bank_of_before(home: Path, folder: Path) -> BackboneRecord:
    """A bank as expertbank 0.1 left it after ``init``: it names the backbone by its digest."""
    loaded = load_backbone(str(folder), device="cpu")
    spec = replace(
        loaded.default_feature_spec(max_length=32),
        backbone_digest=digest_v1(loaded.model, loaded.tokenizer),
    )
    home.mkdir()
    with FolderHome(home).location.create() as registry:
        return registry.set_backbone(
            BackboneRecord(
                spec.backbone_digest,
                str(folder),
                architecture_of(loaded.model.config),
                spec,
                "2026-01-01T00:00:00+00:00",
            )
        )


def forget_identity(home: Path) -> None:
    with sqlite3.connect(home / "registry.db") as database:
        database.execute("UPDATE backbones SET identity = NULL")


@pytest.fixture
def mpnet(backbone_folder, tmp_path: Path) -> Path:
    """Outside the table, so 0.1's digest is over every field of its configuration."""
    return shutil.copytree(backbone_folder("mpnet"), tmp_path / "mpnet")


def test_a_bank_of_before_keeps_its_name_and_from_then_on_its_files_decide(
    mpnet: Path, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    old = bank_of_before(home, mpnet)
    with Bank.open(home) as bank:
        add(bank, "films", tmp_path, adapter=NAMED)
        record, run = bank.backbone(), bank.registry.run(bank.experts()[0].run_id)
        before = bank.predict(texts(3), task="films")
    assert (record.digest, run.backbone_digest) == (old.digest, old.digest)
    assert record.identity == load_backbone(str(mpnet), device="cpu").digest != old.digest
    # Of no meaning, but 0.1 hashed it: what a new release's further field would have done.
    edit_config(mpnet, attention_probs_dropout_prob=0.3)
    with Bank.open(home) as bank:
        assert bank.predict(texts(3), task="films") == before
    forget_identity(home)
    with Bank.open(home) as bank, pytest.raises(IntegrityError, match=old.digest):
        bank.predict(texts(3), task="films")


def test_a_bank_of_before_is_read_without_being_written_to(mpnet: Path, tmp_path: Path) -> None:
    home = tmp_path / "bank"
    bank_of_before(home, mpnet)
    with Bank.open(home) as bank:
        add(bank, "films", tmp_path, adapter=NAMED)
    forget_identity(home)
    (home / DIGEST_CACHE).unlink()
    before = (home / "registry.db").read_bytes()
    with Bank.open(home, read_only=True) as bank:
        assert bank.predict(texts(3), task="films")
        assert bank.backbone().identity is None
        assert "checked when loaded" in str(bank.doctor(rehash=True).findings)
    assert (home / "registry.db").read_bytes() == before
    assert not (home / DIGEST_CACHE).exists()


def test_a_bundle_of_before_answers_and_refuses_as_it_did(mpnet: Path, tmp_path: Path) -> None:
    home, bundle = tmp_path / "bank", tmp_path / "bundle"
    old = bank_of_before(home, mpnet)
    with Bank.open(home) as bank:
        for task in ("films", "laws"):
            add(bank, task, tmp_path, adapter=NAMED)
        bank.retrain_router()
        bank.export(bundle)
        before = bank.predict(texts(4))
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["backbone"]["digest"] == old.digest
    for name in ("identity", "revision"):
        del manifest["backbone"][name]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert list(load_bundle(bundle).predict(rows(4))) == before
    loaded = load_backbone(str(mpnet))
    assert list(load_bundle(bundle, backbone=loaded).predict(rows(4))) == before
    stranger = tiny.build(tmp_path / "stranger", "mpnet", seed=1)
    with pytest.raises(IntegrityError, match=f"has digest .*expected {old.digest}"):
        load_bundle(bundle, backbone=str(stranger))


# -- families ------------------------------------------------------------------------------


def test_listing_a_family_later_changes_nothing_for_a_bank_that_named_its_modules(
    mpnet: Path, tmp_path: Path, families: None
) -> None:
    home = tmp_path / "bank"
    with Bank.open(home, backbone=str(mpnet)) as bank:
        add(bank, "films", tmp_path, adapter=NAMED)
        digest, before = bank.backbone().digest, bank.predict(texts(3), task="films")
    FAMILIES.register("mpnet", MPNET)
    with Bank.open(home) as bank:
        assert bank.predict(texts(3), task="films") == before
        add(bank, "laws", tmp_path, adapter=NAMED)
        assert bank.backbone().digest == digest


def test_a_family_from_outside_needs_no_target_and_ships(
    mpnet: Path, tmp_path: Path, families: None
) -> None:
    FAMILIES.register("mpnet", MPNET)
    with Bank.open(tmp_path / "bank", backbone=str(mpnet)) as bank:
        for task in ("films", "laws"):
            add(bank, task, tmp_path)
        bank.retrain_router()
        bank.export(tmp_path / "bundle")
        answers = bank.predict(texts(4))
        file = bank._workspace.expert_file(bank.experts()[0])
    paths = [slot.path for group in file.adapter().groups for slot in group.slots]
    assert {path.rpartition(".")[2] for path in paths} == {"q", "v"}
    assert list(load_bundle(tmp_path / "bundle").predict(rows(4))) == answers
