"""Several threads load backbones at once: each gets its own, and the process stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import gguf
import huggingface_hub.utils
import pytest
import torch
from transformers import modeling_gguf_pytorch_utils as dequantising
from transformers.utils import logging

from expertbank.backbones.backbone import load_backbone
from expertbank.process_wide import WhileAny

THREADS = 4
FolderOf = Callable[[str], Path]


def settings() -> list[Any]:
    """What loading changes of the process meanwhile."""
    return [
        *(logging.get_verbosity(), logging.is_progress_bar_enabled(), dequantising.tqdm),
        *(gguf.GGUFReader, torch.get_default_dtype(), torch.random.get_rng_state().tolist()),
        huggingface_hub.utils.are_progress_bars_disabled(),
    ]


def test_threads_that_load_at_once_all_get_their_backbone_and_leave_no_setting_changed(
    backbone_folder: FolderOf, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [str(backbone_folder(family)) for family in ("bert", "llama")] * (THREADS // 2)
    before, together = settings(), Barrier(THREADS)
    capfd.readouterr()

    def load(folder: str) -> str:
        together.wait()
        return load_backbone(folder, device="cpu").digest

    for _ in range(3):
        with ThreadPoolExecutor(THREADS) as threads:
            digests = list(threads.map(load, folders))
        assert digests[:2] == digests[2:]
        assert settings() == before
    assert capfd.readouterr() == ("", "")


def test_a_setting_of_the_process_is_put_back_by_the_last_thread_that_leaves() -> None:
    setting = ["loud"]

    @contextmanager
    def quiet() -> Iterator[None]:
        before, setting[0] = setting[0], "quiet"
        yield
        setting[0] = before

    held = WhileAny(quiet)
    held.__enter__()  # one thread
    held.__enter__()  # and another
    held.__exit__()
    assert setting == ["quiet"]
    held.__exit__()
    assert setting == ["loud"]


def test_a_change_that_cannot_be_made_is_tried_again_by_the_next() -> None:
    tries = []

    @contextmanager
    def late() -> Iterator[None]:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("not yet")
        yield

    held = WhileAny(late)
    with pytest.raises(OSError, match="not yet"), held:
        pass
    with held:
        assert len(tries) == 2
