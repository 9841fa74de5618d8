"""Trains in a process of its own, whose memory no other test has been in.

Run as ``python memory_of_a_run.py CASE``, a json file with ``data``, ``out``, ``settings`` and ``leak``, the
bytes that are held back at each validation. Prints, as json, the resident bytes of this process and of all
its workers at each validation.
"""

import json
import sys
from pathlib import Path

import psutil

import detrkit
from detrkit.training.events import Validated


def main(data: str, out: str, settings: dict[str, object], leak: int) -> None:
    me, own, workers, held = psutil.Process(), [], [], []
    for event in detrkit.fit(detrkit.recipe("detr_r50", settings), data, out):
        if isinstance(event, Validated):
            held.append(b"x" * leak)
            children = [child for child in me.children() if child.status() != psutil.STATUS_ZOMBIE]
            own.append(me.memory_info().rss)
            workers.append(sum(child.memory_info().rss for child in children))
    sys.stdout.write(json.dumps([own, workers]))


if __name__ == "__main__":
    main(**json.loads(Path(sys.argv[1]).read_text("utf-8")))
