"""Charts look the same whatever style matplotlib was given elsewhere."""

import matplotlib as mpl

from detrkit.report.drawing import LINES, sheet


def test_a_style_that_was_set_elsewhere_changes_nothing() -> None:
    def svg() -> str:
        with sheet("bars") as opened:
            opened.axes.bar([1, 2], [3, 4], color=LINES[0])
        return opened.svg

    plain = svg()
    with mpl.rc_context({"patch.edgecolor": "white", "patch.force_edgecolor": True, "axes.titlesize": 40}):
        assert svg() == plain
    assert "var(--line-1)" in plain
