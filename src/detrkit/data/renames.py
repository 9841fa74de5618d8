"""New names of classes, as ``old=new`` or in a file."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detrkit.errors import DetrkitError, shown
from detrkit.files import read_short_text
from detrkit.settings.toml import LONGEST, read_toml


def read_renames(given: Sequence[str]) -> dict[str, str]:
    """New names by old ones; an empty new name drops a class.

    Each text is ``old=new``, or names a .toml or .json file whose top level has a text for each old name.

    Raises:
        DetrkitError: A text or a file is none of these, or an old name has two new ones.
    """
    renames: dict[str, str] = {}
    for text in given:
        for old, new in _renames_of(text).items():
            if renames.setdefault(old, new) != new:
                raise DetrkitError(
                    f"--map renames '{old}' to '{renames[old]}' and to '{new}': keep one of the two."
                )
    return renames


def _renames_of(text: str) -> dict[str, str]:
    if Path(text).suffix.lower() in (".toml", ".json") and "=" not in text:
        return _read(Path(text))
    old, given, new = (word.strip() for word in text.partition("="))
    if not old or not given:
        raise DetrkitError(
            f"--map {text} is neither old=new, such as automobile=car, nor a .toml or .json file of such."
        )
    return {old: new}


def _read(file: Path) -> dict[str, str]:
    try:
        if file.suffix.lower() == ".toml":
            content = read_toml(file)
        else:
            content = json.loads(read_short_text(file, LONGEST), object_pairs_hook=_once)
    # both formats' errors, and that of Unicode, are a ValueError
    except (OSError, ValueError, RecursionError) as error:
        raise DetrkitError(f"{file} cannot be read ({error}): write old names with their new ones.") from None
    if not isinstance(content, dict) or not all(isinstance(new, str) for new in content.values()):
        raise DetrkitError(
            f"{file} holds something else than old names, each with a new one as text, such as "
            'automobile = "car": write one for each class to rename, and an empty text to drop it.'
        )
    return content


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The mapping of these, as TOML has it: json's reader would take the last of equal names."""
    twice, times = Counter(name for name, _ in pairs).most_common(1)[0] if pairs else ("", 0)
    if times > 1:
        raise ValueError(f"the name {shown(twice)} stands there {times} times")
    return dict(pairs)
