"""Which settings a trial has: proposed by TPE (Bergstra et al. 2011) from the trials before it.

A proposal is a function of the seed, the trial's number and the trials known by then. So a study that goes on
after an interruption, and workers that begin at the same moment, propose nothing twice.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler
from optuna.trial import FrozenTrial, Trial

from detrkit.tuning.space import Choice, Search, Span, word_of
from detrkit.tuning.standing import is_lost

_AT_RANDOM = 6
"""Trials that are drawn blindly, before there is something to learn from."""

_DIGITS = 4
"""Significant digits of a proposed number, since more say nothing."""


def propose(
    trial: Trial, searches: Sequence[Search], seed: int, own: Mapping[str, Any], before: Sequence[FrozenTrial]
) -> dict[str, Any]:
    """The settings of a trial by dotted name; ``before`` are the trials of lower numbers.

    The first trial has the recipe's ``own`` values, and so has the next one while those before are lost.
    """
    first = all(is_lost(other) for other in before)
    trial.study.sampler = _sampler(seed, trial.number, _internal(searches, own) if first else {})
    return {search.name: _suggest(trial, search) for search in searches}


def settings_of(searches: Sequence[Search], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial's parameters mean, as far as it had them."""
    return {
        search.name: _setting(search, parameters[search.name])
        for search in searches
        if search.name in parameters
    }


def _sampler(seed: int, number: int, fixed: dict[str, Any]) -> BaseSampler:
    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    # Univariate: a proposal is made when a trial, and with it its number, is there.
    tpe = TPESampler(seed=drawn, n_startup_trials=_AT_RANDOM, multivariate=False, constant_liar=True)
    if not fixed:
        return tpe
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PartialFixedSampler(fixed, tpe)


def _suggest(trial: Trial, search: Search) -> Any:
    match search:
        case Choice(name, values):
            found = trial.suggest_categorical(name, [word_of(value) for value in values])
        case Span(name, low, high, log, True):
            found = trial.suggest_int(name, int(low), int(high), log=log)
        case Span(name, low, high, log, _):
            found = trial.suggest_float(name, low, high, log=log)
    return _setting(search, found)


def _setting(search: Search, parameter: Any) -> Any:
    match search:
        case Choice(_, values):
            return next(value for value in values if word_of(value) == parameter)
        case Span(_, _, _, _, True):
            return int(parameter)
        case Span(_, low, high, _, _):
            return min(max(_rounded(parameter), low), high)


def _internal(searches: Sequence[Search], own: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the study's parameters, in which a choice is a word."""
    kinds = {search.name: search for search in searches}
    return {name: word_of(value) if isinstance(kinds[name], Choice) else value for name, value in own.items()}


def _rounded(value: float) -> float:
    if value == 0:
        return 0.0
    return round(value, _DIGITS - 1 - math.floor(math.log10(abs(value))))
