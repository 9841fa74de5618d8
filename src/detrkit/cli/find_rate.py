"""What ``detrkit train --find-lr`` does instead of training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from detrkit.cli.say import say

if TYPE_CHECKING:
    from detrkit.settings.experiment import Experiment


def find_rate_and_say(experiment: "Experiment", data: Path, out: Path, init: Path | None) -> None:
    """Run the test, write ``find-lr.png`` and ``find-lr.json`` to the folder, and print the suggestion."""
    from detrkit.cli.options import output_folder
    from detrkit.monitoring.range_figure import draw_range_test
    from detrkit.terminal import open_console
    from detrkit.training.range_test import find_rate

    with open_console(stderr=True).status("Raising the learning rate from step to step .."):
        test = find_rate(experiment, data, init)
    output_folder(out)
    draw_range_test(test).savefig(out / "find-lr.png", dpi=120)
    (out / "find-lr.json").write_text(json.dumps(test._asdict(), indent=1) + "\n", "utf-8")
    if test.suggestion is None:
        say("The loss fell at no rate: look at the data with detrkit data preview DIR.")
    else:
        backbone = f" --set optim.backbone_lr={test.suggestion * test.backbone:.0e}" if test.backbone else ""
        say(f"Try --set optim.lr={test.suggestion:.0e}{backbone}")
    say(f"{len(test.rates)} steps, drawn in {out / 'find-lr.png'}.")
