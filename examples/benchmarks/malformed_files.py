"""Malformed files: is each refused in words, at once, in little memory, with nothing written?

Ten good files of ten formats are spoiled by seed: bytes cut, swapped, inserted, repeated; quotes,
separators, line ends, keys and encodings exchanged. Each goes through ``tasks check`` in a process
of its own; what that refuses goes through ``add`` too, which must refuse it and write nothing.

    python examples/benchmarks/malformed_files.py [--files 400] [--rows 20000] [--seed 0]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from machine import describe

SECONDS = 60
"""What counts as a hang."""
LEAST = 16 * 2**20
"""Memory that is not worth comparing: what an allocator takes at a time."""
PIECES = (
    *(b'"', b'"""', b",", b";;;", b"\t", b"\0", b"\r", b"\n\n", b"[", b"}", b"\\", b"\x1a"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\xed\xa0\x80", b"text,label\n", b"x" * 10_000),
)
"""What gets into files."""
Spoil = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Run:
    """How one command ended: its exit code, what it said, its peak memory in bytes, its time."""

    code: int
    said: str
    peak: int
    seconds: float


def good_files(folder: Path, rows: int) -> list[Path]:
    """Ten files that hold the same rows in ten formats."""
    import pandas

    text = 'a sentence of the usual length, with a comma, some "quotes" and the letter é in it'
    records = [{"text": f"{text} {n}", "label": "abc"[n % 3], "note": n} for n in range(rows)]
    frame = pandas.DataFrame(records)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    frame.to_csv(folder / "comma.csv", index=False)
    frame.to_csv(folder / "semicolon.csv", index=False, sep=";")
    frame.to_csv(folder / "tab.tsv", index=False, sep="\t")
    frame.to_csv(folder / "mark.csv", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    frame.to_csv(folder / "wide.csv", index=False, encoding="utf-16", sep="\t")
    (folder / "lines.jsonl").write_text(lines, encoding="utf-8")
    (folder / "array.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    (folder / "packed.csv.gz").write_bytes(gzip.compress((folder / "comma.csv").read_bytes()))
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    frame.to_parquet(folder / "columns.parquet", index=False)
    return sorted(folder.iterdir())


def cut(data: bytes, chance: random.Random) -> bytes:
    """The end is missing."""
    return data[: chance.randrange(len(data))]


def hole(data: bytes, chance: random.Random) -> bytes:
    """A piece is missing."""
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.randrange(1, 200) :]


def bits(data: bytes, chance: random.Random) -> bytes:
    """Single bytes are others."""
    spoiled = bytearray(data)
    for _ in range(chance.randrange(1, 20)):
        spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
    return bytes(spoiled)


def inserted(data: bytes, chance: random.Random) -> bytes:
    """Something stands where it should not."""
    for _ in range(chance.randrange(1, 5)):
        start = chance.randrange(len(data) + 1)
        data = data[:start] + chance.choice(PIECES) + data[start:]
    return data


def repeated(data: bytes, chance: random.Random) -> bytes:
    """A piece, or all of it, stands twice."""
    start, end = sorted((chance.randrange(len(data)), chance.randrange(len(data))))
    return data + data if chance.random() < 0.3 else data[:end] + data[start:end] + data[end:]


def exchanged(data: bytes, chance: random.Random) -> bytes:
    """A sign that means something is another one, from some place on."""
    signs = [b",", b";", b"\t", b'"', b"\n", b"\r\n", b":", b"{", b"|", b"text", b"label", b"a"]
    start = chance.randrange(len(data) // 2 + 1)
    return data[:start] + data[start:].replace(
        chance.choice(signs), chance.choice(signs), chance.choice([1, 10, -1])
    )


def recoded(data: bytes, chance: random.Random) -> bytes:
    """Text in another encoding, in whole or from some place on."""
    text = data.decode("utf-8", "replace")
    start = chance.choice([0, chance.randrange(len(text) + 1)])
    other = chance.choice(["utf-16", "utf-16-le", "latin-1", "cp1252", "utf-7", "utf-32"])
    return text[:start].encode() + text[start:].encode(other, "replace")


def swapped(data: bytes, chance: random.Random) -> bytes:
    """Two pieces have changed places."""
    a, b, c = sorted(chance.randrange(len(data)) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


SPOILS: tuple[Spoil, ...] = (
    cut, hole, bits, inserted, repeated, exchanged, recoded, swapped
)  # fmt: skip


def spoiled(path: Path, chance: random.Random) -> bytes:
    """The bytes of a good file after one to three mishaps; of a packed one inside or outside."""
    data = path.read_bytes()
    inside = path.suffix == ".gz" and chance.random() < 0.6
    data = gzip.decompress(data) if inside else data
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        data = chance.choice(SPOILS)(data or b"x", chance)
    return gzip.compress(data) if inside else data


def run(words: list[str]) -> Run:
    """One command in a process of its own, forked from this one with everything imported."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            from expertbank_cli.main import run as command

            try:
                command(words)
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(end.code if isinstance(end.code, int) else 1)
            except BaseException:  # noqa: BLE001 (any traceback is what is looked for)
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(70)
        _, status, usage = os.wait4(child, 0)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    return Run(code, text, usage.ru_maxrss * 1024, time.monotonic() - started)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Folder for the files that failed.")
    options = parser.parse_args()
    describe(options.seed)
    chance = random.Random(options.seed)
    counts: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        folder, home = Path(root, "good"), Path(root, "bank")
        folder.mkdir()
        files = good_files(folder, options.rows)
        # Imports belong to no file: the first run pays for them, here and in the children.
        import expertbank_cli.main  # noqa: F401

        small = Path(root, "small.csv")
        small.write_text("text,label\n" + "".join(f"t{n},{n % 2}\n" for n in range(10)))
        base = run(["--home", str(home), "tasks", "check", str(small)]).peak
        good = {path: run(["--home", str(home), "tasks", "check", str(path)]) for path in files}
        for path, found in good.items():
            assert found.code == 0, found.said
            more = (found.peak - base) / 2**20
            print(f"good {path.name}: {more:.0f} MiB beside the program's, {found.seconds:.1f} s")
        most = 0.0
        for number in range(options.files):
            path = files[number % len(files)]
            bad = Path(root, path.name)
            bad.write_bytes(spoiled(path, chance))
            found = run(["--home", str(home), "tasks", "check", str(bad)])
            share = (found.peak - base) / max(good[path].peak - base, LEAST)
            most = max(most, share)
            wrong = complaint(found, share)
            if found.code == 2:
                added = run(["--home", str(home), "add", "--task", "t", "--data", str(bad)])
                wrong = wrong or complaint(added, 0)
                if added.code != 2 or home.exists():
                    wrong = wrong or f"add ended with {added.code}, bank made: {home.exists()}"
            counts[wrong or ("refused" if found.code == 2 else "read")] += 1
            if wrong:
                faults.append(f"{number} {path.name}: {wrong}\n{found.said[-500:]}")
                if options.keep:
                    options.keep.mkdir(exist_ok=True)
                    shutil.copy(bad, options.keep / f"{number}-{path.name}")
    print(f"{options.files} files: {dict(counts)}")
    print(f"largest memory beside the program's, against that of the good file: {most:.2f}")
    print("\n".join(faults))
    sys.exit(bool(faults))


def complaint(found: Run, share: float) -> str:
    """What is wrong with how a command ended; empty if nothing."""
    if "Traceback" in found.said or found.code not in {0, 2}:
        return f"ended with {found.code}"
    if found.seconds > SECONDS:
        return "hung"
    return "more than twice the memory" if share > 2 else ""


if __name__ == "__main__":
    main()
