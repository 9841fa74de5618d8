"""Peak memory is what a process of its own took, and no more."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detrkit.benchmark.contestant import Conditions
from detrkit.benchmark.entrant import Untrained
from detrkit.benchmark.memory import measure_memory
from detrkit.benchmark.results import Effort
from detrkit.catalog import Catalog
from detrkit.errors import DetrkitError

MIB = 2**20
ALLOCATE = """
import torch
from detrkit.benchmark.memory import Measured, _in_a_process

def take(mib, kept):
    def prepare(asked, precision):
        before = torch.ones(2 * kept, 2**18)   # held while it is prepared, and not counted but for a half
        own = before[:kept].clone()
        del before
        return lambda: own.sum() + torch.ones(mib, 2**18).sum()
    return prepare

asked = Measured({}, "", "", {}, "cpu", 1, ("fp32",), 1)
print(*(_in_a_process(take(*sizes), asked, "fp32") for sizes in ((256, 1), (32, 64), (1, 1))))
"""


def test_it_is_what_is_held_and_the_most_that_is_taken_beside_it_each_time_anew() -> None:
    done = subprocess.run([sys.executable, "-c", ALLOCATE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    large, held, small = (int(word) / MIB for word in done.stdout.split())
    assert 257 <= large < 257 + 16
    assert 96 <= held < 96 + 16
    assert small < 16


def conditions(data: Path, catalog: Catalog, out: Path) -> Conditions:
    effort = Effort(precisions=("fp32",), training_batch=1)
    return Conditions(catalog, data, "val", out, {}, torch.device("cpu"), 0, effort)


def test_training_takes_at_least_gradients_and_two_moments_more(
    data: Path, one_image: Catalog, tiny: Path, tmp_path: Path
) -> None:
    found = measure_memory(Untrained(str(tiny)), conditions(data, one_image, tmp_path))
    weights = 4 * 11e6  # those of ResNet-18, nearly all of this network
    assert found.training is not None
    assert found.inference["fp32"] > weights
    assert found.training > found.inference["fp32"] + 2 * weights


def test_a_process_that_fails_says_why(data: Path, one_image: Catalog, tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match="there is no recipe 'nothing'"):
        measure_memory(Untrained("nothing"), conditions(data, one_image, tmp_path))
