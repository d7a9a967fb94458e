"""The Hub's cache on disk, filled as its client fills it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

ONE, TWO = "1" * 40, "2" * 40


def put(cache: Path, name: str, commit: str, source: Path, ref: str | None = "main") -> Path:
    """Add ``source`` as a commit of ``name``, as a download leaves it; returns the snapshot.

    Args:
        cache: the folder ``HF_HUB_CACHE`` names.
        name: ``org/name``.
        commit: 40 hexadecimal digits.
        source: a folder with a backbone's files.
        ref: branch or tag that comes to mean this commit.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir(exist_ok=True)
    for file in source.iterdir():
        if file.is_file():
            blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            shutil.copyfile(file, blob)
            (snapshot / file.name).symlink_to(blob)
    if ref is not None:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return snapshot


def as_sentence_transformer(folder: Path) -> Path:
    """Put beside a backbone what sentence-transformers keeps with one."""
    (folder / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models"}])
    )
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder
