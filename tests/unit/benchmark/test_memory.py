"""Peak memory is what a process of its own took, and no more."""

import subprocess
import sys

MIB = 2**20
ALLOCATE = """
import os
import torch
from detrkit.benchmark.memory import Measured, _in_a_process
from detrkit.errors import DetrkitError

def take(mib, kept):
    def prepare(asked, precision):
        before = torch.ones(2 * kept, 2**18)   # held while it is prepared, of which a half counts
        own = before[:kept].clone()
        del before
        return lambda: own.sum() + torch.ones(mib, 2**18).sum()
    return prepare

def fail(asked, precision):
    raise DetrkitError("there is no such detector")

def break_(asked, precision):
    raise RuntimeError("no such kernel\\nand a second line")

asked = Measured([], "", "", {}, "cpu", 1, ("fp32",), 1)
def die(asked, precision):
    os._exit(9)

print(*(_in_a_process(take(*sizes), asked, "fp32") for sizes in ((256, 1), (32, 64), (1, 1))))
print(_in_a_process(fail, asked, "fp32"))
print(_in_a_process(break_, asked, "fp32"))
print(_in_a_process(die, asked, "fp32"))
"""


def test_it_is_what_is_held_and_the_most_taken_beside_it_each_time_anew_or_why_it_is_not_known() -> None:
    done = subprocess.run([sys.executable, "-c", ALLOCATE], capture_output=True, text=True, check=False)
    sizes, failed, broken, died = done.stdout.splitlines()
    assert failed == "there is no such detector"
    assert broken == "RuntimeError: no such kernel"
    assert "ended with 9" in died
    large, held, small = (int(word) / MIB for word in sizes.split())
    assert 256 <= large < 257 + 16
    assert 95 <= held < 96 + 16
    assert small < 16
