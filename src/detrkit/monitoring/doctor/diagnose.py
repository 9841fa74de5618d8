"""All ailments that a run shows, the most likely cause first."""

from collections.abc import Callable

from detrkit.monitoring.doctor import (
    agreement,
    cost,
    ending,
    learning,
    matching,
    queries,
    rates,
    teaching,
)
from detrkit.monitoring.doctor.ailment import Ailment, most_likely_first
from detrkit.monitoring.doctor.facts import Facts

AILMENTS: tuple[Callable[[Facts], Ailment | None], ...] = (
    ending.not_finite,
    ending.diverged,
    learning.frozen,
    learning.random_backbone_frozen,
    learning.images_repeat,
    agreement.pixels_off,
    teaching.boxes_mistaken,
    teaching.labels_mistaken,
    teaching.labels_at_random,
    queries.too_few_queries,
    queries.everything_found,
    rates.decay_too_strong,
    rates.rate_too_high,
    rates.rate_too_low,
    rates.dropped_too_soon,
    learning.backbone_destroyed,
    agreement.average_lags,
    agreement.evaluation_differs,
    agreement.splits_differ,
    teaching.data_faulty,
    learning.never_fell,
    learning.plateaued,
    learning.overfits,
    queries.nothing_found,
    queries.one_class_found,
    queries.boxes_still,
    queries.queries_dead,
    queries.layers_alike,
    matching.matching_unstable,
    cost.waits_for_data,
    cost.schedule_too_short,
    cost.too_short,
)
"""Every ailment that is known. Where confidence is equal, earlier ones are named first."""


def diagnose(facts: Facts) -> list[Ailment]:
    """What is wrong with a run, the most likely cause first; nothing where it is healthy."""
    return most_likely_first(found for ailment in AILMENTS if (found := ailment(facts)) is not None)
