"""The recipes that come with detrkit: which there are, and their text. Quick to import, for help pages."""

from importlib.resources import files
from importlib.resources.abc import Traversable


def recipe_names() -> list[str]:
    """The names of the recipes."""
    return sorted(
        path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml")
    )


def recipe_text(name: str) -> str:
    """The TOML of a recipe."""
    return (_folder() / f"{name}.toml").read_text("utf-8")


def recipe_summary(name: str) -> str:
    """The first comment line of a recipe: what it is."""
    return recipe_text(name).splitlines()[0].removeprefix("#").strip()


def _folder() -> Traversable:
    return files("detrkit") / "recipes"
