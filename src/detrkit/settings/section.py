"""What all settings have in common: frozen, documented field by field, and closed to unknown names."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from detrkit.errors import DetrkitError, shown

_MOST = 10**9
"""Larger numbers are slips, and overflow where computers count."""

Count = Annotated[int, Field(gt=0, le=_MOST)]
"""How many, or how often: one or more."""

CountOrZero = Annotated[int, Field(ge=0, le=_MOST)]
"""How many, none among them."""


class Section(BaseModel):
    """A group of settings that one part of detrkit consumes."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @field_validator("*")
    @classmethod
    def _require_writable(cls, value: Any) -> Any:
        if isinstance(value, str):
            value.encode()  # its error is a ValueError: no file could hold the setting
        return value


SectionT = TypeVar("SectionT", bound=Section)


def read_section(kind: type[SectionT], tree: Mapping[str, object], source: str) -> SectionT:
    """The settings that a tree of plain values describes; ``source`` is named in errors.

    Raises:
        DetrkitError: One sentence about the first unknown name or wrong value.
    """
    known = setting_names(kind)
    for name in _leaves(tree, known):
        if name not in known:
            raise DetrkitError(f"{source}: there is no setting {shown(name)}{did_you_mean(name, known)}")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        sentence = _explain(error.errors(include_url=False)[0], kind)
        raise DetrkitError(f"{source}: {sentence}.") from None


def kind_unless_given(kind: str) -> BeforeValidator:
    """For a choice of sections told apart by ``kind``: which one settings mean that do not name it."""
    return BeforeValidator(lambda value: {"kind": kind} | value if isinstance(value, dict) else value)


def setting_names(kind: type[Section], prefix: str = "") -> list[str]:
    """The dotted names of all settings, in order; those of a choice of sections are all of theirs."""
    names: list[str] = []
    for name, field in kind.model_fields.items():
        sections = [choice for choice in _choices(field.annotation) if _is_section(choice)]
        for section in sections:
            names += [inner for inner in setting_names(section, f"{prefix}{name}.") if inner not in names]
        if not sections:
            names.append(prefix + name)
    return names


def describe(section: Section, prefix: str = "") -> Iterator[tuple[str, object, str]]:
    """(dotted name, value, what it means) of every setting, in order."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from describe(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, " ".join((field.description or "").split())


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of a sentence about an unknown word: a full stop, or a guess at what was meant."""
    word = word[-100:]  # what is longer is like none
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    guess = next(iter(same_leaf or close), None)
    return f": did you mean '{guess}'?" if guess else "."


def _leaves(tree: Mapping[str, object], known: list[str], prefix: str = "") -> Iterator[str]:
    """The dotted names of a tree, which is followed as deep as there are sections."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and any(one.startswith(f"{name}.") for one in known):
            yield from _leaves(value, known, f"{name}.")
        else:
            yield name


def _explain(error: ErrorDetails, kind: type[Section]) -> str:
    where, reason, value = _without_tags(error["loc"], kind), error["msg"], error["input"]
    if error["type"] == "union_tag_invalid":
        where, value = f"{where}.kind", error.get("ctx", {})["tag"]
        reason = f"Input should be one of {error.get('ctx', {})['expected_tags']}"
    elif error["type"] == "extra_forbidden":
        reason = _why_extra(where, kind, error["loc"])
    given = "" if isinstance(value, dict | Section) else f" = {shown(value)}"
    return ": ".join(filter(None, (where + given, reason.removeprefix("Value error, "))))


def _why_extra(where: str, kind: type[Section], place: tuple[int | str, ...]) -> str:
    *path, name = where.split(".")
    # sections on the way, each with the kind that it or the nearest one around it is of
    found: list[tuple[type[Section], str]] = [(kind, "")]
    for word in path:
        found = [
            (choice, choice.model_fields["kind"].default if "kind" in choice.model_fields else owner)
            for section, owner in found
            if word in section.model_fields
            for choice in _choices(section.model_fields[word].annotation)
            if _is_section(choice)
        ]
    owners = list(dict.fromkeys(owner for section, owner in found if name in section.model_fields))
    if not owners:
        return "there is no such setting"
    whose = " or ".join(repr(owner) for owner in owners)
    # pydantic puts the chosen one of several sections into the place
    kinds = {owner for _, owner in found}
    chosen = next(part for part in reversed(place[:-1]) if part in kinds)
    return f"only kind {whose} has this setting, but the kind is {chosen!r}: set that too, or leave this out"


def _without_tags(place: tuple[int | str, ...], kind: Any) -> str:
    """The dotted name of a place, without what pydantic puts there for the chosen one of several sections."""
    words: list[str] = []
    choices = (kind,)
    for part in place:
        if len(choices) > 1:
            choices = tuple(choice for choice in choices if choice.model_fields["kind"].default == part)
            continue
        words.append(str(part))
        field = choices[0].model_fields.get(str(part)) if choices else None
        choices = tuple(filter(_is_section, _choices(field.annotation))) if field else ()
    return ".".join(words)


def _choices(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(annotation) or (annotation,)


def _is_section(choice: Any) -> bool:
    return isinstance(choice, type) and issubclass(choice, Section)
