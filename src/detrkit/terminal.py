"""The console of all that a terminal shows: rich's, but names of others in it command no terminal."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from detrkit.errors import printable


def open_console(*, stderr: bool = False, highlight: bool = True, emoji: bool = True) -> Console:
    """A console whose texts are all ``printable``; only what rich itself says to a terminal reaches one."""
    return _Printable(stderr=stderr, highlight=highlight, emoji=emoji)


def words(text: str, style: str = "") -> Text:
    """A text without markup that is ``printable`` before its lines are broken."""
    return Text(printable(text), style)


class _Printable(Console):
    def render_str(self, text: str, **options: object) -> Text:
        """Markup, likewise before lines are broken, so that columns stand below each other."""
        return super().render_str(printable(text), **options)  # pyright: ignore[reportArgumentType]

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """All that is ever printed, in segments."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
