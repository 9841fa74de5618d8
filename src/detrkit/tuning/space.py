"""What is searched: settings with their ranges or choices, as they are written on the command line."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment
from detrkit.settings.section import describe
from detrkit.settings.toml import NotTomlError, parse_toml

DEFAULT = ("optim.lr=1e-5:1e-2", "optim.backbone_lr=1e-6:1e-2", "optim.weight_decay=1e-6:1e-1")
"""What is searched unless `--set` fixes it: a decade around DETR's 1e-4, 1e-5 and 1e-4, and around what small
detectors want that start from random weights."""

_RATES = ("optim.lr", "optim.backbone_lr", "optim.weight_decay")
"""Their scale is logarithmic, said or not: what matters is by which factor they change."""

_SET_BY_THE_STUDY = {
    "train.epochs": "a trial is as long as the recipe or --budget says",
    "train.max_steps": "a trial is as long as the recipe or --budget says",
    "train.budget": "a trial is as long as the recipe or --budget says",
    "train.validate_every": "trials are compared when the study says so",
    "train.patience": "trials are ended by the study",
    "train.seed": "all trials have the same, which is --seed",
}
"""A setting that trials must not differ in, and why."""


class Span(NamedTuple):
    """A number from ``low`` to ``high``, both included; ``log`` gives every decade the same weight."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool


class Choice(NamedTuple):
    """One of some values."""

    name: str
    values: tuple[Any, ...]


Search = Span | Choice


def read_searches(texts: Sequence[str], fixed: Collection[str] = ()) -> list[Search]:
    """What these texts and the defaults say: ``NAME=LOW:HIGH[:log][:int]`` or ``NAME=A,B,C``.

    A default is left out where it is ``fixed``, and replaced where a text names the same setting.

    Raises:
        DetrkitError: where a text is at fault.
    """
    given = [_read(text) for text in texts]
    names = [search.name for search in given]
    for name in names:
        if names.count(name) > 1:
            raise DetrkitError(f"--search {name} is given {names.count(name)} times: give it once.")
    usual = [_read(text) for text in DEFAULT]
    kept = [search for search in usual if search.name not in fixed and search.name not in names]
    if not kept and not given:
        raise DetrkitError("--set fixes all that is searched: name what to search with --search.")
    return [*kept, *given]


def require_settings(searches: Sequence[Search], build: Callable[[Mapping[str, Any]], Experiment]) -> None:
    """Raise a DetrkitError where ``build`` refuses what may be proposed: ends, choices, and between."""
    for search in searches:
        match search:
            case Choice(name, values):
                for value in values:
                    build({name: value})
            case Span(name, low, high, _, whole):
                build({name: _number(low, whole)})
                build({name: _number(high, whole)})
                if not whole:
                    _require_fractions(search, build)


def starting_point(searches: Sequence[Search], experiment: Experiment) -> dict[str, Any]:
    """The recipe's own values of what is searched, as far as the search may propose them."""
    values = {name: value for name, value, _ in describe(experiment)}
    own = {search.name: values.get(search.name) for search in searches}
    return {search.name: own[search.name] for search in searches if _holds(search, own[search.name])}


def written(search: Search) -> str:
    """The search as it is written after ``--search``."""
    match search:
        case Choice(name, values):
            return f"{name}={','.join(word_of(value) for value in values)}"
        case Span(name, low, high, log, whole):
            return f"{name}={low:g}:{high:g}{':log' if log else ''}{':int' if whole else ''}"


def word_of(value: object) -> str:
    """A value in a few letters: numbers with four digits at most."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)


def _read(text: str) -> Search:
    name, equals, domain = (part.strip() for part in text.partition("="))
    if not (equals and name and domain):
        raise DetrkitError(f"--search {text}: {_EXPECTED}")
    if name in _SET_BY_THE_STUDY:
        raise DetrkitError(f"--search {text}: {name} cannot be searched, since {_SET_BY_THE_STUDY[name]}.")
    return _span(name, domain, text) if ":" in domain else _choice(name, domain, text)


def _choice(name: str, domain: str, text: str) -> Choice:
    values = _values(domain)
    words = [word_of(value) for value in values]
    if len(set(words)) < len(words):
        raise DetrkitError(f"--search {text}: a value is there twice; name each once.")
    return Choice(name, values)


def _span(name: str, domain: str, text: str) -> Span:
    low, high, *marks = (part.strip() for part in domain.split(":"))
    if not set(marks) <= {"log", "int"}:
        raise DetrkitError(f"--search {text}: {_EXPECTED}")
    span = Span(
        name, _limit(low, text), _limit(high, text), "log" in marks or name in _RATES, whole="int" in marks
    )
    if not span.low < span.high:
        raise DetrkitError(f"--search {text}: {low} is not below {high}; give the lower end first.")
    if span.log and span.low <= 0:
        raise DetrkitError(f"--search {text}: a logarithmic scale has no {low}; begin above 0.")
    if span.whole and not (span.low.is_integer() and span.high.is_integer()):
        raise DetrkitError(f"--search {text}: with :int, both ends are whole numbers.")
    return span


_EXPECTED = (
    "write it as NAME=LOW:HIGH, NAME=LOW:HIGH:log, NAME=LOW:HIGH:int or NAME=A,B,C, such as "
    "optim.lr=1e-5:1e-3:log."
)


def _limit(text: str, whole_text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DetrkitError(f"--search {whole_text}: '{text}' is not a number; {_EXPECTED}")
    return value


def _values(domain: str) -> tuple[Any, ...]:
    """The values of a list: TOML's, or else plain words."""
    try:
        return tuple(parse_toml(f"values = [{domain}]")["values"])
    except NotTomlError:
        return tuple(_value(word.strip()) for word in domain.split(","))


def _value(word: str) -> Any:
    try:
        return parse_toml(f"value = {word}")["value"]
    except NotTomlError:
        return word


def _number(value: float, whole: bool) -> float | int:
    return int(value) if whole else value


def _require_fractions(span: Span, build: Callable[[Mapping[str, Any]], Experiment]) -> None:
    between = span.low + (span.high - span.low) / math.pi
    try:
        build({span.name: between})
    except DetrkitError as error:
        raise DetrkitError(
            f"--search {written(span)} would also propose {between:.4g}, but {error} For whole numbers, add "
            ":int."
        ) from None


def _holds(search: Search, value: object) -> bool:
    match search:
        case Choice(_, values):
            return value in values
        case Span(_, low, high, _, _):
            return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
