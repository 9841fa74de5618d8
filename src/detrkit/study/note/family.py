"""Which detectors a note compares, and the settings that all of them have in common."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from detrkit.errors import DetrkitError
from detrkit.settings.classical import FasterRcnnSettings, FcosSettings, RetinaNetSettings
from detrkit.settings.experiment import Experiment, detr_settings, recipe
from detrkit.settings.model import AnchorDecoderSettings, BackboneSettings
from detrkit.settings.published import PublishedSettings
from detrkit.study.agreement import require_agreement
from detrkit.study.request import recipe_name

FAMILIES = {
    "shapes": ("shapes", "shapes_conditional", "shapes_plain"),
    "detr_r50": ("detr_r50", "conditional_r50", "dab_dn_r50"),
}
"""A base, and the recipes that differ from it in their decoder alone."""

FEW = 10_000
"""Images to train on, below which a note takes the small family unless recipes are named: the published
recipes want as many, or a start from COCO's weights."""

BACKBONES = ("resnet50", "resnet101")

CLASSICAL = ("faster_rcnn_r50", "retinanet_r50", "fcos_r50")
"""The recipes of the classical detectors."""

_PUBLISHED_BATCH = 16
"""Images of a step that their learning rates are for."""

_PROPOSALS, _SAMPLES = 300, 64
"""Proposals that Faster R-CNN judges (Ren et al. 2015), and of which Fast R-CNN learns (Girshick 2015), of an
image; torchvision's more of both are for images of 800 pixels."""

_SCORE = 0.01
"""Below it, the classical detectors of a note leave out detections; DETR leaves out none."""

_WARMUP = 1000
"""Steps in which torchvision's learning rates rise."""

Role = Literal["smaller", "larger", "grown", "tuned", "decoder", "classical"]
"""What a run is in a note: the base with the smaller backbone or the larger one, the larger one grown from
the smaller, the base with tuned settings, another decoder, or a classical detector."""


class Member(NamedTuple):
    """A detector that a note trains, with the settings that it has but for its length."""

    role: Role
    settings: Experiment


def family_of(recipes: Sequence[str], kind: str, train_images: int) -> tuple[str, ...]:
    """The recipes that are named; a base of a family alone stands for all of it.

    Where none is named, those of the published recipes for a full note and for many images.
    """
    if not recipes:
        return FAMILIES["detr_r50" if kind == "full" or train_images >= FEW else "shapes"]
    names = [recipe_name(text) for text in recipes]
    for name in names:
        if names.count(name) > 1:
            raise DetrkitError(f"recipe {name} is given {names.count(name)} times: give it once.")
    return FAMILIES.get(recipes[0], tuple(recipes)) if len(recipes) == 1 else tuple(recipes)


def require_backbones(text: str) -> tuple[str, str]:
    """The two that a text such as ``resnet18,resnet34`` names, the smaller first."""
    known = get_args(BackboneSettings.model_fields["name"].annotation)
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or any(name not in known for name in names):
        raise DetrkitError(
            f"--backbones {text}: name a smaller and a larger one of {', '.join(known)}, such as "
            "resnet18,resnet34."
        )
    if known.index(names[0]) >= known.index(names[1]):
        raise DetrkitError(f"--backbones {text}: {names[0]} is not the smaller one; name it first.")
    return names[0], names[1]


def members_of(
    recipes: Sequence[str], backbones: tuple[str, str], overrides: Mapping[str, object]
) -> dict[str, Member]:
    """The detectors of a note by name.

    Raises:
        DetrkitError: where a recipe is at fault, differs from the base in more than its decoder and what
            belongs to it, or the weights of the smaller backbone cannot grow into the larger one.
    """
    smaller, larger = backbones
    named = {
        recipe_name(text): recipe(text, {**overrides, "model.backbone.name": smaller}) for text in recipes
    }
    require_agreement(named)
    base, *others = named.values()
    deeper = recipe(recipes[0], {**overrides, "model.backbone.name": larger})
    _require_growth(backbones)
    small, large = short(smaller), short(larger)
    members = {
        small: Member("smaller", base),
        large: Member("larger", deeper),
        f"{large}_from_{small}": Member("grown", deeper),
        f"{small}_tuned": Member("tuned", base),
    }
    for other in others:
        members[_free(decoder_name(other), members)] = Member("decoder", other)
    for name in CLASSICAL:
        members[name.removesuffix("_r50")] = Member("classical", like_the_base(recipe(name), base))
    return members


def like_the_base(classical: Experiment, base: Experiment) -> Experiment:
    """A classical detector with the base's pixels, batches, backbone, precision and average.

    Its optimiser is its own, with a learning rate in proportion to the images of a step, which are 16 where
    it was published (Goyal et al. 2017). Its schedule is the base's, with at least its own warm-up. Its
    length in epochs stays its own, which counts where there is no budget. Anchors stay as published, since
    the strides that they lie on do: smaller ones would leave gaps between them. Proposals get fewer with the
    area of an image, though not fewer than were published. Detections are left out below the same low score.
    """
    detr, model = detr_settings(base, "The base of a note"), classical.model
    assert isinstance(model, FasterRcnnSettings | RetinaNetSettings | FcosSettings)
    shared = detr.backbone.model_dump(include={"name", "weights", "norm", "frozen_stages"})
    changed: dict[str, object] = {
        "backbone": model.backbone.model_copy(update=shared),
        "score_threshold": min(model.score_threshold, _SCORE),
    }
    if isinstance(model, FasterRcnnSettings):
        area = (base.data.eval_short_side / classical.data.eval_short_side) ** 2
        changed["proposals"] = _within(area * model.proposals, _PROPOSALS, model.proposals)
        changed["samples"] = _within(area * model.samples, _SAMPLES, model.samples)
    factor = base.data.batch_size * base.train.accumulate / _PUBLISHED_BATCH
    rates = {name: getattr(classical.optim, name) * factor for name in ("lr", "backbone_lr")}
    warmup = max(base.schedule.warmup, classical.schedule.warmup)
    return classical.model_copy(
        update={
            "data": base.data,
            "model": model.model_copy(update=changed),
            "optim": classical.optim.model_copy(update=rates),
            "schedule": base.schedule.model_copy(update={"warmup": warmup}),
            "train": base.train.model_copy(update={"epochs": classical.train.epochs}),
            "published": PublishedSettings(),
        }
    )


def warmed_up(member: Member, steps: int) -> Experiment:
    """A member's settings for a run of so many steps.

    The published warm-up of the classical detectors is 1,000 steps, half a percent of a published run. Half a
    percent of a short run is a step or two, so here it is 1,000 steps or a tenth of the run, whichever is
    less, unless its settings have a longer one.
    """
    settings = member.settings
    if member.role != "classical":
        return settings
    warmup = max(settings.schedule.warmup, min(_WARMUP / steps, 0.1))
    return settings.model_copy(update={"schedule": settings.schedule.model_copy(update={"warmup": warmup})})


def decoder_name(experiment: Experiment) -> str:
    """A decoder's kind, and whether it is trained with denoising."""
    decoder = detr_settings(experiment, "A note's comparison of decoders").decoder
    noisy = isinstance(decoder, AnchorDecoderSettings) and decoder.denoising.groups
    return f"{decoder.kind}_dn" if noisy else decoder.kind


def short(backbone: str) -> str:
    """A backbone's name in a few letters: r50."""
    return backbone.replace("resnet", "r")


def _within(value: float, low: int, high: int) -> int:
    return min(max(round(value), low), high)


def _free(name: str, taken: Mapping[str, Member]) -> str:
    """The name, or with a number where it is taken."""
    number = 2
    while name in taken:
        name, number = f"{name}_{number}", number + 1
    return name


def _require_growth(backbones: tuple[str, str]) -> None:
    basic = [name in ("resnet18", "resnet34") for name in backbones]
    if basic[0] != basic[1]:
        raise DetrkitError(
            f"--backbones {','.join(backbones)}: the weights of {backbones[0]} cannot grow into "
            f"{backbones[1]}, whose blocks are built otherwise; take resnet18,resnet34 or resnet50,resnet101."
        )
