"""Damage to files: bytes that are cut, flipped and put in, and trees with values of the wrong kind."""

import io
import json
import re
import struct
import zipfile
from argparse import Namespace
from collections.abc import Callable
from random import Random
from typing import Any

import torch
import yaml

Damage = Callable[[bytes, Random], bytes]
"""From the content of a file to another one, which is a function of the random numbers."""

DEEP = "(nested a hundred thousand deep)"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30),
    *(0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "x",
        "0",
        "nan",
        "1e999",
        "../a.png",
        "/etc/passwd",
        "a\0b",
        "C:\\a",
        "🐈",
        "\n",
        "x" * 5000,
        "\ud800",
    ),
    *([], [0], [1, 2, 3, 4], [[]], {}, {"": 0}, {"x": {"x": [None]}}, [0] * 500, DEEP),
)
"""What stands in a file instead of a value."""
_WORDS = (
    *("", "-1", "0", "9" * 30, "9" * 5000, "1e999", "nan", "inf", "-inf", "true", "null", "[", "]", "{", "}"),
    *('"', "'", "\\", "<", ">", "&", "&x;", "<a>", "*a", "&a", "!!python/name:os.system", "<<:", "\0"),
    *("../../etc/passwd", "/etc/passwd", "\t", "\n", "=", ":", "#", "é", "\u202e", "\ufeff", "[" * 3000),
)


def damage_bytes(content: bytes, random: Random) -> bytes:
    """Some bytes cut off, flipped, put in, left out, doubled, or written over with the largest numbers."""
    start = random.randrange(len(content) + 1)
    end = min(len(content), start + 2 ** random.randrange(8))
    match random.randrange(6):
        case 0:
            return content[:start]
        case 1:
            flipped = bytes(byte ^ 1 << random.randrange(8) for byte in content[start : start + 1])
            return content[:start] + flipped + content[start + 1 :]
        case 2:
            return content[:start] + random.randbytes(random.randrange(1, 9)) + content[start:]
        case 3:
            return content[:start] + content[end:]
        case 4:
            return content[:end] + content[start:]
        case _:
            extreme = random.choice([b"\0", b"\xff", b"\x7f"]) * random.choice([1, 2, 4, 8])
            return content[:start] + extreme + content[start + len(extreme) :]


def damage_text(content: bytes, random: Random) -> bytes:
    """A word or sign that became another, or a line that is missing or doubled; sometimes bytes as well."""
    if random.random() < 0.2:
        return damage_bytes(content, random)
    lines = content.decode("utf-8", "surrogateescape").splitlines(keepends=True) or [""]
    place = random.randrange(len(lines))
    words = list(re.finditer(r"[\w.+-]+|[^\w\s]", lines[place]))
    match random.randrange(5):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, random.choice(lines))
        case _ if words:
            word = random.choice(words)
            other = random.choice(_WORDS)
            lines[place] = lines[place][: word.start()] + other + lines[place][word.end() :]
        case _:
            lines[place] += random.choice(_WORDS)
    return "".join(lines).encode("utf-8", "surrogateescape")


def damage_tree(tree: Any, random: Random) -> Any:
    """A copy of a tree in which one value is missing, doubled, or replaced by an odd one or another's."""
    if random.random() < 0.1 or not isinstance(tree, dict | list) or not tree:
        return random.choice(ODD)
    copied: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    key = random.choice(list(copied)) if isinstance(copied, dict) else random.randrange(len(copied))
    match random.randrange(8):
        case 0:
            del copied[key]
        case 1 if isinstance(copied, dict):
            copied[str(random.choice(ODD))] = copied[key]
        case 1:
            copied.append(copied[key])
        case 2:
            copied[key] = random.choice(list(copied.values()) if isinstance(copied, dict) else copied)
        case _:
            copied[key] = damage_tree(copied[key], random)
    return copied


def damage_json(content: bytes, random: Random) -> bytes:
    """JSON with one value that is not what it should be; sometimes damaged as a text."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return damage_text(content, random)
    if random.random() < 0.2:
        return damage_text(content, random)
    text = json.dumps(damage_tree(tree, random))
    return _nested(text, f'"{DEEP}"')


def damage_lines(content: bytes, random: Random) -> bytes:
    """A log with other values in some of its lines, the same in each of a kind, or with lines in disorder."""
    lines, kind, seed = (
        content.splitlines(),
        random.choice([b'"step"', b'"validation"', b"{"]),
        random.random(),
    )
    share = random.choice([0.1, 0.5, 1.0])
    if random.random() < 0.1:
        random.shuffle(lines)
    damaged = [
        damage_json(line, Random(seed)) if kind in line and random.random() < share else line
        for line in lines
    ]
    return b"\n".join([*damaged, b""])


def damage_yaml(content: bytes, random: Random) -> bytes:
    """YAML with one value that is not what it should be; sometimes damaged as a text."""
    try:
        tree = yaml.safe_load(content)
    except (ValueError, RecursionError, yaml.YAMLError):
        return damage_text(content, random)
    if random.random() < 0.4:
        return damage_text(content, random)
    text = yaml.safe_dump(damage_tree(tree, random), default_flow_style=None)
    return _nested(text, DEEP)


def damage_safetensors(content: bytes, random: Random) -> bytes:
    """A safetensors file whose header, or the JSON that detrkit keeps there, says something else."""
    length = int.from_bytes(content[:8], "little")
    try:
        header, rest = dict(json.loads(content[8 : 8 + length])), content[8 + length :]
        metadata = dict(header["__metadata__"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return damage_bytes(content, random)
    if random.random() < 0.2:
        return damage_bytes(content, random)
    if "detrkit" in metadata and random.random() < 0.7:
        held = damage_json(str(metadata["detrkit"]).encode(), random).decode(errors="replace")
        header["__metadata__"] = metadata | {"detrkit": held}
    else:
        header = damage_tree(header, random)
    encoded = _nested(json.dumps(header), f'"{DEEP}"')
    stated = random.choice([0, 1, 2**32, 2**60, 2**64 - 1]) if random.random() < 0.1 else len(encoded)
    return struct.pack("<Q", stated) + encoded + rest


def damage_pickle(content: bytes, random: Random) -> bytes:
    """A file of ``torch.save`` with another tree, other bytes in its pickle, or other bytes anywhere."""
    kind = random.randrange(4)
    try:
        if kind == 0:
            return _with_member(content, lambda name: name.endswith("data.pkl"), damage_bytes, random)
        if kind == 1:
            return _with_member(content, lambda name: "data/" in name, damage_bytes, random)
        if kind == 2:
            return _saved(_damage_objects(_loaded(content), random))
    except Exception:  # noqa: BLE001 damaged already, the file may provoke anything
        return damage_bytes(content, random)
    return damage_bytes(content, random)


def damage_zip(content: bytes, random: Random) -> bytes:
    """An archive with other bytes anywhere, or with a member of another name or content."""
    kind = random.randrange(3)
    try:
        if kind:
            return _with_member(content, lambda name: kind == 1, damage_bytes, random)
    except Exception:  # noqa: BLE001 damaged already, the file may provoke anything
        return damage_bytes(content, random)
    return damage_bytes(content, random)


def _loaded(content: bytes) -> Any:
    with torch.serialization.safe_globals([Namespace]):
        return torch.load(io.BytesIO(content), weights_only=True)


def _saved(tree: Any) -> bytes:
    saved = io.BytesIO()
    torch.save(tree, saved)
    return saved.getvalue()


def _damage_objects(tree: Any, random: Random) -> Any:
    if isinstance(tree, dict) and isinstance(tree.get("args"), Namespace) and random.random() < 0.4:
        return tree | {"args": Namespace(**_texts(damage_tree(vars(tree["args"]), random)))}
    damaged = damage_tree(tree, random)
    if isinstance(damaged, dict) and random.random() < 0.3:
        odd = random.choice(
            [
                torch.zeros(1).expand(2**40),
                torch.zeros(0, 2**40),
                torch.zeros(3, dtype=torch.complex64),
                torch.zeros(2, 2).to_sparse(),
                torch.tensor(1),
                torch.zeros(2, 3, device="meta"),
            ]
        )
        return damaged | {random.choice([*damaged, 7]): odd}  # a copy: it may be one of ODD
    return damaged


def _texts(tree: Any) -> dict[str, Any]:
    return {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}


def _nested(text: str, mark: str) -> bytes:
    return text.replace(mark, "[" * 100_000 + "]" * 100_000).encode("utf-8", "surrogatepass")


def _with_member(content: bytes, chosen: Callable[[str], bool], damage: Damage, random: Random) -> bytes:
    """The archive with one of the chosen members damaged, or with one more if none is."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(changed, "w") as after:
        names = [name for name in before.namelist() if chosen(name)]
        target = random.choice(names) if names else None
        for name in before.namelist():
            held = before.read(name)
            after.writestr(name, damage(held, random) if name == target else held)
        if target is None:
            name = random.choice(
                [*before.namelist(), "../outside", "/outside", "images/../../x", "a\\b", "x"]
            )
            after.writestr(name, b"x" * random.choice([0, 10, 100_000]), random.choice([0, 8, 12, 14]))
    return changed.getvalue()
