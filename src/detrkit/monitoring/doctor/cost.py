"""What costs time or accuracy: waiting for data, and runs that end before they learned what they could."""

import numpy as np

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.facts import Course, Facts
from detrkit.settings.experiment import recipe

WAITS = 0.3
"""A third of the time; 8 % in recorded healthy runs, which load without workers."""
RISES = 0.4
"""The share of the final AP that came in the last fifth; if the rate drops there, up to a fifth is usual."""
STILL_RISES = 0.1
"""The share of the final AP that came in the last third, which has the drop of DETR's own schedule."""
FAR_BELOW = 0.25
"""The part of the images that the published training saw. After 0.3 of them (150 of 500 epochs) DETR lacks
6 % of its AP (39.5 of 42.0), after a tenth 17 % (34.8): below a quarter there is more to gain than noise."""
COCO_IMAGES = 118_287
"""Images of COCO's train2017, of which published epochs are."""
SMALL = 10_000
"""Images below which a DETR wants the weights of a larger dataset more than time."""


def waits_for_data(facts: Facts) -> Ailment | None:
    """Training stands still until images are loaded."""
    stretches = facts.course.stretches
    if not stretches:
        return None
    waiting = sorted(stretch.waiting for stretch in stretches)[len(stretches) // 2]
    if waiting < WAITS:
        return None
    workers = facts.number("data.workers")
    return Ailment(
        "waits-for-data",
        "cost",
        beyond(waiting, WAITS, 2 * WAITS),
        "Training waits for images",
        f"{waiting:.0%} of a step goes by until its images are loaded; data.workers is {workers:.0f}",
        f"Try --set data.workers={max(2, 2 * int(workers))}, or detrkit data cache for smaller copies of "
        "large images",
    )


def too_short(facts: Facts) -> Ailment | None:
    """The AP was still rising fast when the run ended."""
    course = facts.course
    if facts.state != "finished" or len(course.checkups) < 4 or schedule_too_short(facts) is not None:
        return None
    rise = _rise(course, 0.8)
    if rise < RISES:
        return None
    return Ailment(
        "run-too-short",
        "cost",
        beyond(rise, RISES, 2 * RISES),
        "The run was too short",
        f"{rise:.0%} of its AP of {course.best_ap:.3f} came in the last fifth of the run",
        f"Train at least twice as long: --set train.max_steps={2 * course.steps}",
    )


def schedule_too_short(facts: Facts) -> Ailment | None:
    """The run saw far fewer images than the recipe's published training, and the AP was still rising.

    Images are what is compared, not epochs, since an epoch is as long as its dataset. Published APs are of
    training that starts from a backbone alone, so nothing is said of runs that start from a whole detector.
    """
    course, epochs = facts.course, facts.number("published.epochs")
    seen, published = course.steps * course.images, epochs * COCO_IMAGES
    if facts.trained_before or not seen or not published or seen >= FAR_BELOW * published:
        return None
    if course.progress < 0.95 or len(course.checkups) < 4:
        return None
    rise = _rise(course, 2 / 3)
    if rise < STILL_RISES:
        return None
    return Ailment(
        "schedule-too-short",
        "cost",
        beyond(-np.log(seen / published), -np.log(FAR_BELOW), -np.log(FAR_BELOW / 5)),
        "The schedule is too short, measured by the published one",
        f"its {course.steps:,} steps see {seen:,} images{_epochs(facts, seen)}, which are "
        f"{seen / published:.1%} of those in which the recipe reached its published AP of "
        f"{facts.number('published.ap'):.1f} on COCO ({epochs:.0f} epochs of {COCO_IMAGES:,} images; "
        f"{facts.settings.get('published.source')}), and "
        f"{rise:.0%} of its own AP of {course.best_ap:.3f} came in its last third",
        _remedy(facts, FAR_BELOW * published),
    )


def _rise(course: Course, place: float) -> float:
    """The share of the final AP that came after this part of the run; 0 where the last AP is not the best."""
    steps, aps = zip(*((one.step, max(one.ap, 0.0)) for one in course.checkups), strict=True)
    if course.best_ap < 0.02 or aps[-1] < course.best_ap:
        return 0.0
    return 1 - float(np.interp(place * course.steps, steps, aps)) / course.best_ap


def _epochs(facts: Facts, seen: int) -> str:
    if facts.splits is None:
        return ""
    images = facts.splits.images[0]
    return f" ({seen / images:,.0f} epochs of {images:,})"


def _remedy(facts: Facts, wanted: float) -> str:
    steps = int(wanted / facts.course.images)
    longer = f"train on a quarter of the published images: --set train.max_steps={steps}"
    pretrained = "from the weights of a detector that COCO has trained: train --init FILE"
    if facts.splits is not None and facts.splits.images[0] < SMALL:
        return f"With so few images, start {pretrained}; or {longer}"
    sooner = _sooner(facts)
    options = [f"take a decoder that converges sooner ({sooner})"] if sooner else []
    return "To get further, " + ", or ".join([*options, longer, f"start {pretrained}"])


def _sooner(facts: Facts) -> str:
    """The recipes of the same backbone whose published training is shorter, and what they reached."""
    suffix = str(facts.settings.get("model.backbone.name")).replace("resnet", "r")
    if suffix not in ("r50", "r101"):
        return ""
    found = {name: recipe(name).published for name in (f"conditional_{suffix}", f"dab_dn_{suffix}")}
    return ", ".join(
        f"{name}: {one.ap:.1f} AP after {one.epochs} epochs"
        for name, one in found.items()
        if one.epochs and one.ap and one.epochs < facts.number("published.epochs")
    )
