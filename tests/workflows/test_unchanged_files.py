"""A digest is taken over from earlier only where the filesystem proves that nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from expertbank_cli.main import run
from small_bank import add, texts, write_task

from expertbank import Bank
from expertbank.backbones import file_states
from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.file_states import STEP, Seen, look, states_of
from expertbank.backbones.identity import backbone_files, identity_of
from expertbank.errors import IntegrityError
from expertbank.files import mounts
from expertbank.workflows.digest_cache import DIGEST_CACHE, DigestCache


def swap(backbone: Path, tmp_path: Path) -> None:
    """Other weights in the same file, of the same size, with the time of its last change."""
    path = backbone / "model.safetensors"
    state = path.stat()
    other = tiny.build(tmp_path / "other", "bert", seed=1) / "model.safetensors"
    assert other.stat().st_size == state.st_size
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        state.st_size,
        state.st_mtime_ns,
        state.st_ino,
    )


@pytest.fixture
def grown(own_backbone: Path, tmp_path: Path) -> Path:
    """A bank with a task and a router, whose backbone's digest is remembered."""
    home = tmp_path / "bank"
    with Bank.open(home, backbone=str(own_backbone)) as bank:
        add(bank, "films", tmp_path)
        bank.retrain_router()
    assert DigestCache(home / DIGEST_CACHE).find(own_backbone) is not None
    return home


USES: dict[str, Callable[[Bank, Path], object]] = {
    "predict": lambda bank, folder: bank.predict(texts(2)),
    "add": lambda bank, folder: add(bank, "laws", folder),
    "export": lambda bank, folder: bank.export(folder / "bundle"),
    "export for PEFT": lambda bank, folder: bank.export(folder / "peft", format="peft"),
    "evaluate": lambda bank, folder: bank.evaluate("films", folder / "films.csv"),
    "report": lambda bank, folder: bank.forgetting_report(verify=True),
}


@pytest.mark.parametrize("use", USES)
def test_swapped_weights_of_the_same_size_and_time_are_noticed(
    use: str, grown: Path, own_backbone: Path, tmp_path: Path
) -> None:
    swap(own_backbone, tmp_path)
    with Bank.open(grown) as bank, pytest.raises(IntegrityError, match="expected"):
        USES[use](bank, tmp_path)
    with Bank.open(grown) as bank:
        assert [expert.id for expert in bank.experts()] == ["films@1"]


def test_doctor_and_verify_notice_them_unasked(
    grown: Path, own_backbone: Path, tmp_path: Path
) -> None:
    with Bank.open(grown) as bank:
        assert bank.verify().ok
        swap(own_backbone, tmp_path)
        found = {one.subject: one for one in bank.doctor().findings}["backbone"]
        assert (found.state, "the bank was made with" in found.found) == ("problem", True)
        (problem,) = bank.verify().problems
        assert problem.where == str(own_backbone)
        shutil.rmtree(own_backbone)
        assert bank.verify().ok, "what is not here cannot be checked, and is no fault of the bank's"


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_other_files_of_the_backbone_count_as_the_weights_do(
    name: str, grown: Path, own_backbone: Path
) -> None:
    path = own_backbone / name
    state, text = path.stat(), path.read_text()
    other = {"tokenizer.json": ('"film"', '"milf"'), "config.json": ("1e-12", "1e-11")}[name]
    assert other[0] in text
    path.write_text(text.replace(*other))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    with Bank.open(grown) as bank, pytest.raises(IntegrityError):
        bank.predict(texts(1))


def test_a_link_that_leads_elsewhere_now_is_noticed(own_backbone: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        tiny.build(tmp_path / name, "bert", seed=seed)
    path = own_backbone / "model.safetensors"
    path.unlink()
    path.symlink_to(tmp_path / "one" / "model.safetensors")
    cache = DigestCache(tmp_path / DIGEST_CACHE)
    cache.remember(own_backbone, identity_of(own_backbone))
    assert cache.find(own_backbone) is not None
    path.unlink()
    path.symlink_to(tmp_path / "two" / "model.safetensors")
    assert cache.find(own_backbone) is None
    path.unlink()
    path.symlink_to(tmp_path / "one" / "model.safetensors")
    assert cache.find(own_backbone) is not None
    swap(tmp_path / "one", tmp_path)
    assert cache.find(own_backbone) is None


def test_a_folder_moved_into_the_place_of_another_is_noticed(
    own_backbone: Path, tmp_path: Path
) -> None:
    cache = DigestCache(tmp_path / DIGEST_CACHE)
    cache.remember(own_backbone, identity_of(own_backbone))
    shutil.copytree(own_backbone, tmp_path / "twin")  # copy2 keeps the times
    own_backbone.rename(tmp_path / "away")
    (tmp_path / "twin").rename(own_backbone)
    assert cache.find(own_backbone) is None
    shutil.rmtree(own_backbone)
    (tmp_path / "away").rename(own_backbone)
    assert cache.find(own_backbone) is not None


# -- when states are proof -----------------------------------------------------------------


def test_a_state_as_old_as_the_look_at_it_is_no_proof(own_backbone: Path) -> None:
    files = states_of(backbone_files(own_backbone))
    changed = max(state[-1] for state in files)
    assert not Seen(files, changed).is_proof
    assert not Seen(files, changed + STEP - 1).is_proof
    assert Seen(files, changed + STEP).is_proof
    assert not Seen(files, changed - 10**9).is_proof, "a clock that was set back proves nothing"


def test_whole_seconds_need_a_longer_time(own_backbone: Path) -> None:
    files = [[*state[:-1], 5_000_000_000] for state in states_of(backbone_files(own_backbone))]
    assert not Seen(files, 6_900_000_000).is_proof
    assert Seen(files, 7_000_000_000).is_proof


def test_files_of_this_moment_are_waited_for_so_that_looking_is_proof(own_backbone: Path) -> None:
    os.utime(own_backbone / "config.json")
    assert look(backbone_files(own_backbone)).is_proof


def test_a_change_while_the_files_are_waited_for_is_seen(
    own_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(seconds: float) -> None:
        os.utime(own_backbone / "config.json")

    os.utime(own_backbone / "config.json")
    monkeypatch.setattr(file_states.time, "sleep", meanwhile)
    seen = look(backbone_files(own_backbone))
    assert not seen.is_proof
    assert seen.files == states_of(backbone_files(own_backbone))


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("ext4", True), ("overlay", True), ("squashfs", False), ("vfat", False), ("nfs4", False)],
)
def test_where_change_times_mean_nothing_the_files_are_hashed_again(
    kind: str, kept: bool, own_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DigestCache(tmp_path / DIGEST_CACHE)
    cache.remember(own_backbone, identity_of(own_backbone))
    monkeypatch.setattr(mounts, "filesystem_of", lambda path: kind)
    assert (cache.find(own_backbone) is not None) == kept


def test_what_is_remembered_is_the_state_before_hashing_not_the_state_after(
    own_backbone: Path, tmp_path: Path
) -> None:
    loaded = load_backbone(str(own_backbone), device="cpu")
    swap(own_backbone, tmp_path)
    cache = DigestCache(tmp_path / DIGEST_CACHE)
    cache.remember(own_backbone, loaded.identity)
    assert cache.find(own_backbone) is None


def test_files_that_change_while_they_are_hashed_are_refused(
    own_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expertbank.backbones import identity

    plain = identity.weight_files.tensors_digest

    def swapped_meanwhile(folder: Path) -> tuple[str, frozenset[str]]:
        found = plain(folder)
        swap(own_backbone, tmp_path)
        return found

    monkeypatch.setattr(identity.weight_files, "tensors_digest", swapped_meanwhile)
    with pytest.raises(IntegrityError, match="changed while they were read"):
        load_backbone(str(own_backbone), device="cpu")


def test_a_loaded_model_does_not_change_with_its_file(own_backbone: Path, tmp_path: Path) -> None:
    loaded = load_backbone(str(own_backbone), device="cpu")
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    swap(own_backbone, tmp_path)
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, before[name])


# -- hashed when asked ---------------------------------------------------------------------


def forge(home: Path, backbone: Path) -> None:
    """A cache that vouches for whatever the files are now: what no time could show."""
    path = home / DIGEST_CACHE
    content = json.loads(path.read_text())
    seen = Seen(states_of(backbone_files(backbone)), time.time_ns() + 10 * STEP)
    content[str(backbone.resolve())]["seen"] = seen.to_dict()
    path.write_text(json.dumps(content))


def test_add_and_doctor_hash_when_asked_whatever_is_remembered(
    grown: Path, own_backbone: Path, tmp_path: Path
) -> None:
    swap(own_backbone, tmp_path)
    forge(grown, own_backbone)
    with Bank.open(grown) as bank:
        found = {one.subject: one for one in bank.doctor(rehash=True).findings}["backbone"]
        assert found.state == "problem"
        with pytest.raises(IntegrityError, match="now"):
            add(bank, "laws", tmp_path, rehash=True)
        write_task(tmp_path / "games.csv", "games")
        with pytest.raises(IntegrityError, match="now"):
            bank.prepare("games", data=tmp_path / "games.csv", rehash=True)
        assert [expert.id for expert in bank.experts()] == ["films@1"]
    words = ["--home", grown, "add", "--task", "games", "--data", tmp_path / "games.csv"]
    with pytest.raises(SystemExit) as ended:
        run([*map(str, words), "--rehash"])
    assert ended.value.code == 13


def test_add_with_rehash_goes_on_where_all_is_well(grown: Path, tmp_path: Path) -> None:
    with Bank.open(grown) as bank:
        assert add(bank, "laws", tmp_path, rehash=True)
