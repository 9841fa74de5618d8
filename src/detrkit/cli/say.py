"""The one way in which commands print text that is no table."""

import json

import typer

from detrkit.errors import UNPRINTABLE, printable


def say(text: str = "", *, err: bool = False) -> None:
    """Print a text, in which names may be anybody's."""
    typer.echo(printable(text), err=err)


def say_json(tree: object) -> None:
    """Print json, in UTF-8 but for what ``say`` would not print, which stands there as json's escapes."""
    text = json.dumps(tree, indent=2, ensure_ascii=False)
    typer.echo(UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
