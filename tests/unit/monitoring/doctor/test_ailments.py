"""Each ailment on both sides of its threshold, on facts made for it, and the order of what is said."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

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
from detrkit.monitoring.doctor.ailment import Ailment, beyond, most_likely_first
from detrkit.monitoring.doctor.answers import AS_THEY_ARE
from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.facts import (
    Answers,
    Checkup,
    Course,
    Facts,
    Probe,
    Splits,
    Stretch,
    from_json,
    to_json,
)
from detrkit.monitoring.instability import Instability

TERMS = {"classification": [0.4, 0.2], "l1": [0.2, 0.1], "giou": [0.6, 0.3], "class_error": [20.0, 10.0]}


def stretches(
    losses: list[float], *, ratio: float = 2e-3, waiting: float = 0.0, **terms: list[float]
) -> list[Stretch]:
    begun = TERMS | {"giou": [0.9, 0.9]}
    return [
        Stretch(
            last=10 * number,
            loss=loss,
            terms=begun if number == 1 else TERMS | terms,
            norm=5.0,
            ratios={"rest": ratio, "backbone": ratio / 5},
            rates={"rest": 1e-4, "backbone": 1e-5},
            waiting=waiting,
        )
        for number, loss in enumerate(losses, start=1)
    ]


FALLING = [10 * 0.9**number for number in range(40)]


def course(
    losses: list[float] = FALLING, *, aps: tuple[float, ...] = (0.3, 0.38, 0.4, 0.41, 0.42), **more: Any
) -> Course:
    return Course(
        steps=400,
        first_loss=10.0,
        stretches=stretches(losses, **more),
        checkups=[Checkup(80 * number, ap, 1.5 * ap) for number, ap in enumerate(aps, start=1)],
    )


SPLITS = Splits(
    images=(1000, 100),
    most_objects=10,
    mean_objects=3.0,
    beyond=0.0,
    shares=([0.5, 0.3, 0.2], [0.5, 0.3, 0.2]),
    mean_boxes=([0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]),
    findings={},
    distinct=1.0,
)
PROBE = Probe(
    images=(64, 64),
    terms=(TERMS, TERMS),
    pixels=((0.1, 1.0), (0.1, 1.0)),
    objects=(3.0, 3.0),
    sure=(3.0, 3.0),
    usage=[0.2, 0.3, 0.1],
    spread=0.6,
)
SETTINGS = {
    "optim.lr": 1e-4,
    "optim.backbone_lr": 1e-5,
    "optim.weight_decay": 1e-4,
    "schedule.drop_at": 0.67,
    "schedule.drop_factor": 0.1,
    "model.backbone.weights": "imagenet",
    "model.backbone.frozen_stages": 2,
    "model.decoder.queries": 100,
    "train.ema": 0.0,
    "scoring.kind": "softmax",
    "scoring.no_object": 0.1,
}


def facts(
    course_: Course | None = None,
    *,
    settings: dict[str, Any] | None = None,
    parameters: tuple[int, int] = (90, 100),
    splits: dict[str, Any] | None = None,
    probe: dict[str, Any] | None = None,
    fit: float = 0.8,
    trained_before: bool = False,
) -> Facts:
    """A healthy run, but for what is given."""
    return Facts(
        settings=SETTINGS | (settings or {}),
        parameters=parameters,
        state="finished",
        course=course_ or course(),
        splits=Splits(**_fields(SPLITS) | (splits or {})),
        answers=Answers(100, 300, {AS_THEY_ARE: fit}, [[300]], [0.5, 0.3, 0.2]),
        probe=Probe(**_fields(PROBE) | (probe or {})),
        trained_before=trained_before,
    )


def _fields(of: Any) -> dict[str, Any]:
    return {name: getattr(of, name) for name in of.__struct_fields__}


def test_a_healthy_run_has_no_ailment() -> None:
    assert diagnose(facts()) == []


STILL = [10.0] * 40
SLOW = [10 * 0.995**number for number in range(40)]


def matched(*shares: float, aps: tuple[float, ...] = (0.3, 0.38, 0.4, 0.41, 0.42)) -> Course:
    """A course whose validations after the first found these shares of 2 x 100 matches changed."""
    changes = [None, *(Instability(40, round(200 * share), 200) for share in shares)]
    told = [
        Checkup(80 * number, ap, ap, None, changed)
        for number, (ap, changed) in enumerate(zip(aps, changes, strict=True), start=1)
    ]
    return Course(400, 10.0, stretches(FALLING), told)


def seeing(images: int, *, aps: tuple[float, ...] = (0.1, 0.2, 0.3, 0.33, 0.37)) -> Course:
    """A course of 400 steps that see so many images, with APs whose last third brought some 15 %."""
    given = course(aps=aps)
    return Course(given.steps, given.first_loss, given.stretches, given.checkups, images=images // 400)


PUBLISHED = {
    "published.epochs": 1000,
    "published.ap": 42.0,
    "published.source": "a table",
    "model.backbone.name": "resnet50",
}
"""Of which a quarter are 29,571,750 images."""

EARLY = [10 * 0.8 ** min(number, 8) for number in range(40)]

CASES: dict[str, tuple[Callable[[Facts], Ailment | None], Facts, Facts]] = {
    "learning-rate-too-high": (
        rates.rate_too_high,
        facts(course(STILL, ratio=0.04)),
        facts(course(STILL, ratio=0.02)),
    ),
    "learning-rate-too-low": (
        rates.rate_too_low,
        facts(course(SLOW, ratio=0.9e-4, aps=(0.0,) * 5)),
        facts(course(SLOW, ratio=1.1e-4, aps=(0.0,) * 5)),
    ),
    "dropped-too-soon": (
        rates.dropped_too_soon,
        facts(course(EARLY), settings={"schedule.drop_at": 0.2}),
        facts(course(EARLY), settings={"schedule.drop_at": 0.6}),
    ),
    "weight-decay-too-strong": (
        rates.decay_too_strong,
        facts(settings={"optim.lr": 1e-3, "optim.weight_decay": 10}),
        facts(settings={"optim.lr": 1e-3, "optim.weight_decay": 2}),
    ),
    "diverged": (
        ending.diverged,
        facts(course([*FALLING[:30], *[4.0] * 10])),
        facts(course([2.0] * 30 + [3.0] * 10)),
    ),
    "nearly-everything-frozen": (learning.frozen, facts(parameters=(4, 100)), facts(parameters=(6, 100))),
    "random-backbone-frozen": (
        learning.random_backbone_frozen,
        facts(settings={"model.backbone.weights": "none", "model.backbone.frozen_stages": 5}),
        facts(settings={"model.backbone.weights": "imagenet", "model.backbone.frozen_stages": 5}),
    ),
    "backbone-destroyed": (
        learning.backbone_destroyed,
        facts(course(ratio=0.06)),
        facts(course(ratio=0.06), settings={"model.backbone.weights": "none"}),
    ),
    "loss-never-fell": (learning.never_fell, facts(course([9.5] * 40)), facts(course([8.9] * 40))),
    "plateaued-early": (
        learning.plateaued,
        facts(course(EARLY, aps=(0.05,) * 5)),
        facts(course(EARLY, aps=(0.05, 0.1, 0.2, 0.3, 0.4))),
    ),
    "training-images-repeat": (
        learning.images_repeat,
        facts(splits={"distinct": 0.4}),
        facts(splits={"distinct": 0.6}),
    ),
    "overfits": (
        learning.overfits,
        facts(probe={"terms": (TERMS, {name: [2.2 * one for one in term] for name, term in TERMS.items()})}),
        facts(probe={"terms": (TERMS, {name: [1.8 * one for one in term] for name, term in TERMS.items()})}),
    ),
    "labels-at-random": (
        teaching.labels_at_random,
        facts(course(class_error=[50.0, 45.0]), fit=0.6),
        facts(course(class_error=[50.0, 45.0]), fit=0.3),
    ),
    "too-few-queries": (
        queries.too_few_queries,
        facts(splits={"beyond": 0.03}),
        facts(splits={"beyond": 0.01}),
    ),
    "no-object-not-learned": (
        queries.everything_found,
        facts(probe={"sure": (10.0, 10.0)}),
        facts(probe={"sure": (8.0, 8.0)}),
    ),
    "only-nothing-found": (
        queries.nothing_found,
        facts(course(aps=(0.0,) * 5), probe={"sure": (0.0, 0.0)}),
        facts(course(aps=(0.0,) * 5), probe={"sure": (0.0, 0.5)}),
    ),
    "boxes-collapsed": (queries.boxes_still, facts(probe={"spread": 0.05}), facts(probe={"spread": 0.15})),
    "queries-dead": (
        queries.queries_dead,
        facts(probe={"usage": [1.0, *[0.0] * 9]}),
        facts(probe={"usage": [0.8, *[0.0] * 9]}),
    ),
    "decoder-layers-alike": (
        queries.layers_alike,
        facts(course(giou=[0.3, 0.3])),
        facts(course(giou=[0.32, 0.3])),
    ),
    "pixels-off-scale": (
        agreement.pixels_off,
        facts(probe={"pixels": ((-2.0, 0.004), (-2.0, 0.004))}),
        facts(probe={"pixels": ((-0.5, 0.5), (-0.5, 0.5))}),
    ),
    "evaluation-differs-from-training": (
        agreement.evaluation_differs,
        facts(probe={"terms": ({name: [2.5 * one for one in term] for name, term in TERMS.items()}, TERMS)}),
        facts(probe={"terms": ({name: [1.5 * one for one in term] for name, term in TERMS.items()}, TERMS)}),
    ),
    "splits-differ": (
        agreement.splits_differ,
        facts(splits={"shares": ([0.5, 0.3, 0.2], [0.1, 0.3, 0.6])}),
        facts(splits={"shares": ([0.5, 0.3, 0.2], [0.4, 0.3, 0.3])}),
    ),
    "data-faulty": (
        teaching.data_faulty,
        facts(splits={"findings": {"box-repeats": "train: 12 annotations repeat."}}),
        facts(splits={"findings": {"too-many-objects": "train: 12 images."}}),
    ),
    "waits-for-data": (cost.waits_for_data, facts(course(waiting=0.35)), facts(course(waiting=0.25))),
    "matching-unstable": (
        matching.matching_unstable,
        facts(matched(0.9, 0.8, 0.85, 0.9)),
        facts(matched(0.9, 0.8, 0.45, 0.48)),
    ),
    "schedule-too-short": (
        cost.schedule_too_short,
        facts(seeing(28_000_000), settings=PUBLISHED),
        facts(seeing(31_000_000), settings=PUBLISHED),
    ),
    "run-too-short": (
        cost.too_short,
        facts(course(aps=(0.0, 0.1, 0.15, 0.2, 0.4))),
        facts(course(aps=(0.0, 0.1, 0.2, 0.35, 0.4))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_ailment_is_named_beyond_its_threshold_and_not_before(name: str) -> None:
    ailment, ill, healthy = CASES[name]
    found = ailment(ill)
    assert found is not None
    assert found.name == name
    assert 0.5 <= found.confidence <= 1
    assert ailment(healthy) is None


@pytest.mark.parametrize(
    "name",
    ["learning-rate-too-high", "learning-rate-too-low", "weight-decay-too-strong", "backbone-destroyed"],
)
def test_thresholds_of_adamws_updates_say_nothing_of_sgd(name: str) -> None:
    ailment, ill, _ = CASES[name]
    assert ailment(msgspec.structs.replace(ill, settings=ill.settings | {"optim.kind": "adamw"})) is not None
    assert ailment(msgspec.structs.replace(ill, settings=ill.settings | {"optim.kind": "sgd"})) is None


def test_decoder_layers_are_judged_by_many_stretches_since_one_may_lie_anywhere() -> None:
    def run(*gains: float) -> Facts:
        given = course()
        pieces = [
            msgspec.structs.replace(one, terms=TERMS | {"giou": [0.5, 0.5 * (1 - gain)]})
            for one, gain in zip(given.stretches, gains, strict=True)
        ]
        return facts(msgspec.structs.replace(given, stretches=pieces))

    assert queries.layers_alike(run(*[0.0] * 20, *[0.03] * 19, 0.0)) is None
    assert queries.layers_alike(run(*[0.03] * 20, *[0.0] * 19, 0.03)) is not None
    worse = queries.layers_alike(run(*[-0.02] * 40))
    assert worse is not None
    assert "2.0% higher" in worse.evidence
    assert worse.confidence == 1


def test_an_average_that_lags_is_named_only_where_it_has_weights_to_lag_behind() -> None:
    def ap(average: float, raw: float | None) -> Facts:
        return facts(Course(400, 10.0, stretches(FALLING), [Checkup(400, average, average, raw)]))

    found = agreement.average_lags(ap(0.1, 0.4))
    assert found is not None
    assert "0.100" in found.evidence
    assert "0.400" in found.evidence
    assert agreement.average_lags(ap(0.38, 0.4)) is None
    assert agreement.average_lags(ap(0.1, None)) is None
    assert agreement.average_lags(ap(0.0, 0.01)) is None


def test_a_number_that_is_none_is_a_broken_image_unless_the_loss_rose_before() -> None:
    broken = Course(400, 10.0, stretches(FALLING), [], "the loss is not finite in the batch of a.png")
    found = ending.not_finite(facts(broken))
    assert found is not None
    assert "a.png" in found.evidence
    rose = Course(400, 10.0, stretches([*FALLING[:30], *[40.0] * 10]), [], "the loss is not finite")
    assert ending.not_finite(facts(rose)) is None
    assert ending.diverged(facts(rose)) is not None


def test_causes_come_before_costs_before_symptoms_and_the_surest_first() -> None:
    def one(name: str, kind: Any, confidence: float) -> Ailment:
        return Ailment(name, kind, confidence, "", "", "")

    said = [one("a", "cost", 1.0), one("b", "symptom", 0.9), one("c", "cause", 0.5), one("d", "cause", 0.7)]
    assert [ailment.name for ailment in most_likely_first(said)] == ["d", "c", "a", "b"]


@pytest.mark.parametrize(("value", "expected"), [(3.0, 0.5), (4.0, 0.75), (5.0, 1.0), (9.0, 1.0), (2.0, 0.5)])
def test_confidence_rises_from_a_half_at_the_threshold(value: float, expected: float) -> None:
    assert beyond(value, 3.0, 5.0) == pytest.approx(expected)
    assert beyond(-value, -3.0, -5.0) == pytest.approx(expected)


def test_facts_survive_json_with_four_digits() -> None:
    given = facts(probe={"spread": 0.123456})
    back = from_json(to_json(given))
    assert back.probe is not None
    assert back.probe.spread == 0.1235
    assert back.settings == given.settings
    assert [one.last for one in back.course.stretches] == [one.last for one in given.course.stretches]
    assert back.course.best_ap == given.course.best_ap


def test_without_data_and_model_the_log_alone_is_judged() -> None:
    bare = Facts(settings=SETTINGS, parameters=(1, 1), state="running", course=Course(0, 0.0, [], []))
    assert diagnose(bare) == []


def test_matching_that_steadies_or_an_ap_that_rises_is_left_alone() -> None:
    def found(*shares: float, **more: Any) -> Ailment | None:
        return matching.matching_unstable(facts(matched(*shares, **more)))

    assert found(0.6, 0.6, 0.6, 0.6) is not None
    assert found(0.7, 0.7, 0.6, 0.6) is None  # a seventh less
    assert found(0.49, 0.49, 0.49, 0.49) is None
    assert found(0.6, 0.6, 0.6, 0.6, aps=(0.1, 0.2, 0.3, 0.4, 0.5)) is None
    assert matching.matching_unstable(facts()) is None


def test_what_is_said_of_matching_is_the_figure_of_the_paper() -> None:
    found = matching.matching_unstable(facts(matched(0.9, 0.9, 0.9, 0.9)))
    assert found is not None
    assert "4.5 queries of a training image" in found.evidence  # 0.9 x 200 / 40
    assert "90% of all" in found.evidence
    assert "denoising" in found.remedy
    with_denoising = matching.matching_unstable(
        facts(matched(0.9, 0.9, 0.9, 0.9), settings={"model.decoder.denoising.groups": 5})
    )
    assert with_denoising is not None
    assert "denoising" not in with_denoising.remedy


def test_a_schedule_is_measured_by_the_images_that_the_published_one_saw() -> None:
    published = PUBLISHED | {"published.epochs": 500}
    twelve = 12 * 118_287
    found = cost.schedule_too_short(
        facts(seeing(twelve), settings=published, splits={"images": (118_287, 5000)})
    )
    assert found is not None
    assert found.kind == "cost"
    assert "12 epochs of 118,287" in found.evidence
    assert "2.4% of" in found.evidence
    assert "published AP of 42.0 on COCO" in found.evidence
    assert "500 epochs of 118,287 images; a table" in found.evidence
    # a quarter of 500 epochs, in steps that see a 400th of twelve epochs each
    assert f"train.max_steps={125 * 118_287 // (twelve // 400)}" in found.remedy
    assert "conditional_r50: 41.0 AP after 50 epochs" in found.remedy
    assert "dab_dn_r50: 44.7 AP after 50 epochs" in found.remedy


def test_a_small_dataset_is_measured_by_its_images_too_and_wants_trained_weights() -> None:
    # 300 epochs of 1,000 images are 2.5 of COCO's
    found = cost.schedule_too_short(facts(seeing(300_000), settings=PUBLISHED))
    assert found is not None
    assert "300 epochs of 1,000" in found.evidence
    assert found.remedy.startswith("With so few images, start from the weights of a detector that COCO")


@pytest.mark.parametrize(
    "healthy",
    [
        facts(seeing(300_000), settings=PUBLISHED, trained_before=True),
        facts(seeing(300_000)),  # a recipe without a published figure
        facts(seeing(300_000, aps=(0.1, 0.3, 0.36, 0.36, 0.37)), settings=PUBLISHED),  # it rises no more
        facts(seeing(300_000, aps=(0.1, 0.2, 0.3, 0.37, 0.33)), settings=PUBLISHED),
    ],
)
def test_no_schedule_is_too_short_that_rises_no_more_or_has_nothing_to_be_measured_by(healthy: Facts) -> None:
    assert cost.schedule_too_short(healthy) is None


def test_the_published_schedule_says_more_than_the_last_fifth_of_the_run() -> None:
    rising = facts(seeing(300_000, aps=(0.0, 0.1, 0.15, 0.2, 0.4)), settings=PUBLISHED)
    assert [one.name for one in diagnose(rising)] == ["schedule-too-short"]
