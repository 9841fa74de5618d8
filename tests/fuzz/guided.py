"""Fuzzing guided by coverage, with atheris: ``guided.py TARGET -runs=10000`` and libFuzzer's other options.

It damages files as ``test_fuzz.py`` does, and keeps those that reach code that none before did to damage them
further. What crashes a reader is written into a file, and the command fails.
"""

import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["detrkit", "yaml", "PIL", "defusedxml", "zipfile"]):
    from targets import TARGETS, Target


def fuzz(target: Target, options: list[str], work: Path) -> None:
    """Attack a reader with files whose first byte says which of the target's files they stand for."""
    held, corpus = work / "held", work / "corpus"
    for folder in (held, corpus):
        folder.mkdir()
    target.write(held)
    names = sorted(target.damage)
    for number, name in enumerate(names):
        (corpus / str(number)).write_bytes(bytes([number]) + (held / name).read_bytes())

    def attack(given: bytes) -> None:
        if given:
            target.read_with(held, names[given[0] % len(names)], given[1:])

    def mutate(given: bytes, max_size: int, seed: int) -> bytes:
        number = given[0] % len(names) if given else 0
        damaged = target.damage[names[number]](given[1:], Random(seed))
        return (bytes([number]) + damaged)[:max_size]

    atheris.Setup([sys.argv[0], "-max_len=300000", *options, str(corpus)], attack, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    chosen = next(target for target in TARGETS if target.name == sys.argv[1])
    with TemporaryDirectory() as folder:
        fuzz(chosen, sys.argv[2:], Path(folder))
