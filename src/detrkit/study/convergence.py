"""Which recipe learns soonest: the same data, order, backbone, encoder and time for all.

Each recipe is trained with the best of the same few learning rates, found by short runs with a schedule
of their own length. Everything that is done lies in the study's folder, so that the same request goes on
where it stopped: a run that is over is not repeated.
"""

from pathlib import Path

from accelerate import PartialState

from detrkit.errors import DetrkitError
from detrkit.machine import describe_machine
from detrkit.study.events import Listener, Measuring, Planned
from detrkit.study.outcome import best_rate
from detrkit.study.pace import measure_pace
from detrkit.study.page import write_page
from detrkit.study.plan import Plan, make_plan, read_plan, write_plan
from detrkit.study.request import Request
from detrkit.study.results import Results, compare
from detrkit.study.trial import carry_out, full_trial, longer_trial, sweep_trial


def study_convergence(request: Request, out: Path, listener: Listener) -> Results:
    """Train what is asked for into ``out``, compare it, and write ``results.json``, page and figure there.

    Raises:
        DetrkitError: where ``out`` holds another study, or a run meets a fault.
        KeyboardInterrupt: when SIGTERM or Ctrl-C asked to stop; the run at hand is saved.
    """
    _require_one_process()
    plan = _plan(request, out, listener)
    recipes = list(plan.request.recipes)
    sweeps = {
        recipe: [
            carry_out(sweep_trial(plan, recipe, rate), plan, out, listener) for rate in plan.request.rates
        ]
        for recipe in recipes
    }
    rates = {recipe: best_rate(recipe, sweeps[recipe]) for recipe in recipes}
    full = {
        recipe: carry_out(full_trial(plan, recipe, rates[recipe]), plan, out, listener) for recipe in recipes
    }
    longer = {
        recipe: carry_out(longer_trial(plan, recipe, rates[recipe]), plan, out, listener)
        for recipe in plan.request.longer
    }
    results = compare(plan, sweeps, full, longer)
    write_page(results, out)
    return results


def _plan(request: Request, out: Path, listener: Listener) -> Plan:
    """The plan in ``out``, made by measuring where there is none."""
    path = out / "plan.json"
    if path.exists():
        plan = read_plan(path, request)
    else:
        _require_empty(out)
        paces = {}
        for recipe, experiment in request.recipes.items():
            listener(Measuring(recipe))
            paces[recipe] = measure_pace(experiment, request.data)
        plan = make_plan(request, describe_machine(), paces)
        write_plan(path, plan)
    listener(Planned(plan))
    return plan


def _require_empty(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise DetrkitError(f"{out} is not empty and holds no study: choose another --out.")


def _require_one_process() -> None:
    processes = PartialState().num_processes
    if processes > 1:
        raise DetrkitError(f"a study was started in {processes} processes: start it without a launcher.")
