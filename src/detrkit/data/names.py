"""Which names of files, as files of others state them, can only mean a file of the folder they start from."""

_LONGEST = 1024
_LONGEST_PART = 255
"""Bytes, the most that usual file systems allow."""


def stays_inside(name: str) -> bool:
    """Whether a name is relative, does not climb out of its folder, and is no longer than names can be.

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
