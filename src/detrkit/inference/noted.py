"""What modules were given and what they answered, noted while a network runs as it is."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import nn


class Noted(NamedTuple):
    """One call of a module, as its forward hook saw it."""

    module: Any
    inputs: tuple[Any, ...]
    answer: Any


@contextmanager
def noted(modules: Sequence[nn.Module]) -> Iterator[list[Noted]]:
    """A list that grows with every call of these modules, in order. Their hooks end with the context."""
    calls: list[Noted] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], answer: object) -> None:
        calls.append(Noted(module, inputs, answer))

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(note).remove)
        yield calls
