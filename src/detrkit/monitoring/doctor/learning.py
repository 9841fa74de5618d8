"""What is, or is not, learned: frozen parts, a loss that never falls or stops falling, and overfitting."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.facts import Facts
from detrkit.monitoring.doctor.rates import SETTLED, by_adamw, fall, mostly_frozen, typical_ratio

POOR = 0.2
"""An AP that is called poor: half of DETR's on COCO, and a quarter of what shapes give in minutes."""
NEVER = 0.1
"""A loss that fell by less than a tenth: finding the class shares alone brings more."""
EARLY, SURE, STANDS = 0.4, 0.95, 0.05
"""Part of the run before which a change of course is early (DETR drops its rate at 0.67), how sure it must
be, and a fall of the loss after it that is no more than the noise of a stretch's median."""
COPIES = 0.5
"""Distinct files among the training images: with half of them, each is there twice."""
GAP = 2.0
"""The loss on validation images over that on training images, without augmentation on either; recorded
healthy runs have 1.1."""
DESTROYED = 0.01
"""Ten times the healthy update: pretrained weights that move by a hundredth in each step are soon lost."""


def frozen(facts: Facts) -> Ailment | None:
    """Nearly all parameters are kept as they began."""
    if not mostly_frozen(facts):
        return None
    trainable, everything = facts.parameters
    return Ailment(
        "nearly-everything-frozen",
        "cause",
        1.0,
        "Nearly everything is frozen",
        f"{trainable:,} of {everything:,} parameters are trained; the loss fell by {fall(facts):.0%}",
        "Train the rest too: look for requires_grad = False in your code, and for "
        "model.backbone.frozen_stages=5",
    )


def random_backbone_frozen(facts: Facts) -> Ailment | None:
    """The backbone keeps random weights."""
    random = facts.settings.get("model.backbone.weights") == "none"
    stages, rate = facts.number("model.backbone.frozen_stages"), facts.number("optim.backbone_lr", 1.0)
    if not random or (stages < 5 and rate > 0):
        return None
    why = f"model.backbone.frozen_stages is {stages:.0f}" if stages >= 5 else "optim.backbone_lr is 0"
    return Ailment(
        "random-backbone-frozen",
        "cause",
        0.95,
        "The backbone learns nothing and has never learned anything",
        f"its weights are random (model.backbone.weights is none) and stay so, since {why}",
        "Try --set model.backbone.weights=imagenet, or train it: --set model.backbone.frozen_stages=0 "
        f"--set optim.backbone_lr={facts.number('optim.lr'):g}",
    )


def backbone_destroyed(facts: Facts) -> Ailment | None:
    """Pretrained weights are moved so fast that nothing of them is left."""
    ratio = typical_ratio(facts, "backbone")
    random = facts.settings.get("model.backbone.weights") == "none"
    if random or not by_adamw(facts) or ratio is None or ratio < DESTROYED:
        return None
    return Ailment(
        "backbone-destroyed",
        "cause",
        beyond(np.log(ratio), np.log(DESTROYED), np.log(5 * DESTROYED)),
        "The pretrained backbone is being destroyed",
        f"an update moves its weights by {ratio:.1%} of their size, where DETR's settings move them by 0.05 "
        "%",
        "Try --set optim.backbone_lr=1e-5",
    )


def never_fell(facts: Facts) -> Ailment | None:
    """The loss is about what it was at the start."""
    if facts.course.progress < SETTLED or fall(facts) >= NEVER or not facts.course.stretches:
        return None
    last = facts.course.stretches[-1].loss
    return Ailment(
        "loss-never-fell",
        "symptom",
        beyond(-fall(facts), -NEVER, 0.0),
        "The loss never fell",
        f"it was {facts.course.first_loss:.3g} at the start and is {last:.3g} after "
        f"{facts.course.stretches[-1].last:,} steps",
        "Look at what the network is given with detrkit data preview DIR, and for a learning rate with "
        "train --find-lr",
    )


class Plateau(NamedTuple):
    """A change of slope in the logarithm of the loss: where, how sure, and how far it fell after that."""

    step: int
    confidence: float
    fell_after: float


def plateau_of(facts: Facts) -> Plateau | None:
    """The change point of the loss: two lines that meet, fitted to its logarithm by least squares.

    Its confidence is that of an F test of two lines against one (Quandt 1958), whose p value is multiplied by
    the number of places, since the best place was searched for.
    """
    losses = np.array([stretch.loss for stretch in facts.course.stretches])
    if len(losses) < 12 or (losses <= 0).any():
        return None
    place, values = np.arange(len(losses), dtype=np.float64), np.log(losses)
    one = _residual(np.column_stack([np.ones_like(place), place]), values)
    places = range(3, len(losses) - 4)
    two = {
        k: _residual(np.column_stack([np.ones_like(place), place, np.clip(place - k, 0, None)]), values)
        for k in places
    }
    best = min(two, key=lambda k: two[k])
    freedom = len(losses) - 4
    ratio = (one - two[best]) / 2 / max(two[best] / freedom, 1e-12)
    p = min(1.0, float(stats.f.sf(ratio, 2, freedom)) * len(two))
    after = losses[best:]
    third = max(1, len(after) // 3)
    fell = 1 - float(np.median(after[-third:]) / np.median(after[:third]))
    return Plateau(facts.course.stretches[best].last, 1 - p, fell)


def plateaued(facts: Facts) -> Ailment | None:
    """The loss fell fast and then stood still early, at a poor AP."""
    plateau = plateau_of(facts)
    course = facts.course
    if plateau is None or course.progress < 0.5 or course.best_ap >= POOR or fall(facts) < NEVER:
        return None
    early = plateau.step < EARLY * course.steps
    if not early or plateau.confidence < SURE or plateau.fell_after > STANDS:
        return None
    return Ailment(
        "plateaued-early",
        "symptom",
        plateau.confidence,
        "Training stood still early, at a poor AP",
        f"the loss changes its course at step {plateau.step:,} of {course.steps:,} (confidence "
        f"{plateau.confidence:.0%}) and falls by {max(plateau.fell_after, 0):.1%} from there; the best AP is "
        f"{course.best_ap:.3f}",
        "If no cause is named above, try learning rates: detrkit tune RECIPE --data DIR",
    )


def _residual(columns: np.ndarray, values: np.ndarray) -> float:
    fitted, *_ = np.linalg.lstsq(columns, values, rcond=None)
    return float(((columns @ fitted - values) ** 2).sum())


def images_repeat(facts: Facts) -> Ailment | None:
    """The training images are mostly copies of each other."""
    splits = facts.splits
    if splits is None or splits.distinct is None or splits.distinct > COPIES:
        return None
    return Ailment(
        "training-images-repeat",
        "cause",
        beyond(-splits.distinct, -COPIES, -0.2),
        "The training images are mostly copies",
        f"of the files that were looked at, {splits.distinct:.0%} are distinct, so that "
        f"{splits.images[0]:,} images "
        f"hold about {max(splits.images[0] * splits.distinct, 1):,.0f}",
        "Find out how the split was made; detrkit data check DIR lists the copies, and --fix keeps one of "
        "each",
    )


def overfits(facts: Facts) -> Ailment | None:
    """What is seen in training is answered far better than what is not."""
    gap = loss_gap(facts)
    if gap is None or gap < GAP or fall(facts) < 0.5:
        return None
    probe, splits = facts.probe, facts.splits
    assert probe is not None  # there is a gap
    images = f"; there are {splits.images[0]:,} training images" if splits else ""
    return Ailment(
        "overfits",
        "symptom",
        beyond(gap, GAP, 2 * GAP),
        "The training images are learned by heart",
        f"the loss is {gap:.1f} times as high on {probe.images[1]} validation images as on {probe.images[0]} "
        f"training images, both as evaluation sees them{images}",
        "More or more varied images help most; then stronger augmentation (data.crop_probability=0.5), "
        "--set train.patience=5, or weights of a larger dataset with train --init",
    )


def loss_gap(facts: Facts) -> float | None:
    """The loss of the answer on validation images over that on training images."""
    if facts.probe is None:
        return None
    train, val = (weighted(facts, terms) for terms in facts.probe.terms)
    return val / train if train > 0 else None


def weighted(facts: Facts, terms: dict[str, list[float]]) -> float:
    """The weighted loss of the last decoder layer."""
    return sum(
        facts.number(f"loss.{name}", 1.0) * terms[name][-1]
        for name in ("classification", "l1", "giou")
        if name in terms
    )
