"""The report as one HTML file that needs no network and no script."""

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from detrkit.report.content import Document, Drawing, Picture, show

_HERE = Path(__file__).parent


def to_html(document: Document) -> str:
    """The whole page. Everything that comes from a run is escaped; style, script and pictures are inside."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": show, "svg": _svg, "data_uri": _data_uri, "kind": _kind}
    template = environment.get_template("page.html.j2")
    return template.render(
        document=document,
        style=Markup((_HERE / "style.css").read_text("utf-8")),
        script=Markup((_HERE / "sort.js").read_text("utf-8")),
    )


def _kind(block: object) -> str:
    return type(block).__name__


def _svg(drawing: Drawing) -> Markup:
    """The drawing with its text alternative, for a page whose other text is escaped."""
    label = Markup(' role="img" aria-label="{}"').format(drawing.alternative)
    return Markup(drawing.svg.replace("<svg", f"<svg{label}", 1))


def _data_uri(picture: Picture) -> Markup:
    return Markup(f"data:image/jpeg;base64,{b64encode(picture.jpeg).decode('ascii')}")
