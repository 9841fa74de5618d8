"""Which names, as files of others state them, can be used: of files, and of classes."""

_LONGEST = 1024
_LONGEST_PART = 255
"""Bytes, the most that usual file systems allow."""


def is_writable(name: str) -> bool:
    """Whether UTF-8 has all characters of a name, which is what files are written in.

    It has none for half of a surrogate pair, which JSON and YAML can state as an escape.
    """
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def stays_inside(name: str) -> bool:
    """Whether a file's name is relative, does not climb out of its folder, and is no longer than can be.

    Longer ones would also widen a whole column of names: a column is as wide as the longest.
    """
    parts = name.replace("\\", "/").split("/")
    return (
        parts[0] != ""
        and not parts[0].endswith(":")
        and ".." not in parts
        and "\0" not in name
        and len(name) <= _LONGEST
        and all(len(part.encode("utf-8", "surrogatepass")) <= _LONGEST_PART for part in parts)
    )
