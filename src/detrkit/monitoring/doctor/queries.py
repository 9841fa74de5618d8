"""Queries and what they answer: too few, dead, all alike, all sure, or of one class."""

import numpy as np

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.facts import Facts
from detrkit.monitoring.doctor.rates import SETTLED

LEFT_OUT = 0.02
"""A fiftieth of the objects: what can cost a point of AP of fifty."""
STILL = 0.1
"""Boxes that move over images by a tenth of how far objects lie apart; recorded healthy ones: by a third."""
TOO_SURE = 3.0
"""Times as many sure answers as objects; recorded healthy runs have 0.6 times as many at most."""
NOTHING, LEARNS = 0.02, 0.1
"""Sure answers for each object, of which recorded healthy runs have 0.3 to 0.6; and an AP from which a run
has learned to find something."""
ONE_CLASS, COMMON = 0.9, 0.7
"""Share of one class among the detections that is nearly all, and among the objects that is most of them."""
DOMINATES, DEAD = 0.9, 0.8
"""Share of the images in which one query is sure, and of the queries that are sure in none: DETR's specialise
on places and sizes (Carion et al. 2020, figure 7), so that one that does all the work is a fault."""
SAME = 0.01
"""By which part the box loss must be lower in the last decoder layer than in the first, in the median of the
second half of the run: by 2 to 30 % in recorded healthy runs of two layers, by 0.2 % at most where nothing
was learned."""


def too_few_queries(facts: Facts) -> Ailment | None:
    """Images have more objects than there are queries to answer for them."""
    splits, queries = facts.splits, facts.number("model.decoder.queries")
    if splits is None or splits.beyond < LEFT_OUT:
        return None
    return Ailment(
        "too-few-queries",
        "cause",
        beyond(splits.beyond, LEFT_OUT, 5 * LEFT_OUT),
        "There are too few queries",
        f"{splits.beyond:.0%} of the training objects are more than the {queries:.0f} queries of their "
        f"image can answer for; an image has up to {splits.most_objects:,}",
        f"Try --set model.decoder.queries={max(10, 2 * splits.most_objects)}",
    )


def everything_found(facts: Facts) -> Ailment | None:
    """Far more queries are sure than there are objects: 'no object' is not learned."""
    probe = facts.probe
    if probe is None or facts.course.progress < SETTLED:
        return None
    sure, objects = probe.sure[1], max(probe.objects[1], 0.1)
    if sure < TOO_SURE * objects:
        return None
    softmax = facts.settings.get("scoring.kind") == "softmax"
    setting = "scoring.no_object" if softmax else "scoring.alpha"
    value = facts.number(setting)
    return Ailment(
        "no-object-not-learned",
        "cause",
        beyond(sure / objects, TOO_SURE, 1.5 * TOO_SURE),
        "Queries never answer with nothing",
        f"{sure:.1f} queries of an image are sure of an object, where {objects:.1f} objects are; {setting} "
        f"is {value:g}",
        f"Try --set {setting}={0.1 if softmax else 0.25}, which is published",
    )


def nothing_found(facts: Facts) -> Ailment | None:
    """Every query answers with nothing."""
    probe = facts.probe
    if probe is None or facts.course.progress < SETTLED or facts.course.best_ap > LEARNS:
        return None
    sure, objects = probe.sure[1], max(probe.objects[1], 0.1)
    if sure > NOTHING * objects:
        return None
    return Ailment(
        "only-nothing-found",
        "symptom",
        beyond(-sure / objects, -NOTHING, 0.0),
        "Queries answer with nothing only",
        f"{sure:.2f} queries of an image are sure of an object, where {objects:.1f} objects are",
        "This is what the first part of training looks like: train longer, or see the causes above",
    )


def one_class_found(facts: Facts) -> Ailment | None:
    """The best detections are nearly all of one class, which the objects are not."""
    answers, splits = facts.answers, facts.splits
    if answers is None or splits is None or facts.course.progress < SETTLED or len(answers.shares) < 2:
        return None
    label = int(np.argmax(answers.shares))
    found, true = answers.shares[label], splits.shares[1][label]
    if found < ONE_CLASS or true > COMMON:
        return None
    return Ailment(
        "one-class-found",
        "symptom",
        beyond(found, ONE_CLASS, 1.0),
        "Nearly all that is found is of one class",
        f"{found:.0%} of the best detections have label {label}, as {true:.0%} of the objects have",
        "This is what the first part of training looks like; if it stays, see the shares of the classes with "
        "detrkit data stats DIR",
    )


def boxes_still(facts: Facts) -> Ailment | None:
    """Queries answer with the same boxes whatever the image."""
    probe = facts.probe
    if probe is None or facts.course.progress < SETTLED:
        return None
    if probe.spread is None or probe.spread >= STILL:
        return None
    return Ailment(
        "boxes-collapsed",
        "symptom",
        beyond(-probe.spread, -STILL, -STILL / 4),
        "Boxes do not depend on the image",
        f"a query's box moves from image to image by {probe.spread:.0%} of how far the objects lie apart",
        "The images do not reach the queries: look at the backbone's learning rate and weights, and at the "
        "input with detrkit data preview DIR",
    )


def queries_dead(facts: Facts) -> Ailment | None:
    """One query answers in nearly every image while most never do."""
    probe = facts.probe
    if probe is None or facts.course.progress < SETTLED or not probe.usage:
        return None
    usage = np.array(probe.usage)
    dominating, dead = int((usage > DOMINATES).sum()), float((usage == 0).mean())
    # with few objects, few queries are needed: only where one of them does all the work is it told
    if not dominating or dead < DEAD or probe.sure[1] > TOO_SURE * probe.objects[1]:
        return None
    return Ailment(
        "queries-dead",
        "symptom",
        beyond(dead, DEAD, 1.0),
        "Most queries are dead",
        f"{dead:.0%} of {len(usage)} queries are sure in none of {probe.images[1]} images, and {dominating} "
        "in more than nine of ten",
        "Fewer queries do as well (model.decoder.queries); the report shows where each one looks",
    )


def layers_alike(facts: Facts) -> Ailment | None:
    """The last decoder layer's boxes are no better than the first's."""
    stretches = facts.course.stretches
    if not stretches or facts.course.progress < 0.5 or facts.course.best_ap < 0.05:
        return None
    layers = [stretch.terms.get("giou", []) for stretch in stretches[len(stretches) // 2 :]]
    gains = [1 - losses[-1] / losses[0] for losses in layers if len(losses) > 1 and losses[0] > 0]
    if not gains or np.median(gains) >= SAME:
        return None
    gain, number = float(np.median(gains)), len(layers[-1])
    return Ailment(
        "decoder-layers-alike",
        "symptom",
        beyond(-gain, -SAME, SAME),
        "Decoder layers do not improve on each other",
        f"in the second half of the run, the box loss (GIoU) of the last of {number} layers is "
        f"{abs(gain):.1%} {'lower' if gain > 0 else 'higher'} than that of the first",
        f"Fewer layers would do as well: --set model.decoder.layers={max(1, number // 2)}; if AP is low, "
        "see the causes above",
    )
