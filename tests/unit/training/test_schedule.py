import pytest

from detrkit.settings.training import ScheduleSettings, TrainSettings
from detrkit.training.schedule import Length, plan, rate_factor, validates


@pytest.mark.parametrize(
    ("epochs", "images", "per_step", "steps"),
    [
        (300, 118_287, 64, 554_471),  # the published run: COCO, 300 epochs of batches of 64
        (1, 10, 10, 1),
        (1, 11, 10, 2),
        (2, 11, 10, 3),  # 22 images: the second epoch begins within the second step
        (3, 1, 2, 2),
        (1, 256, 2, 128),
    ],
)
def test_a_run_sees_every_image_as_often_as_epochs_say(
    epochs: int, images: int, per_step: int, steps: int
) -> None:
    length = plan(TrainSettings(epochs=epochs), images, per_step)
    assert length.steps == steps
    assert length.steps * per_step >= epochs * images > (length.steps - 1) * per_step


def test_a_run_of_a_number_of_steps_has_that_many() -> None:
    length = plan(TrainSettings(epochs=7, max_steps=13), 100, 8)
    assert length == Length(steps=13, images_per_step=8, num_images=100)
    assert length.epoch(13) == pytest.approx(1.04)


@pytest.mark.parametrize("epochs", [1, 3, 10])
@pytest.mark.parametrize("every", [1, 2, 3, 7, 20])
@pytest.mark.parametrize(("images", "per_step"), [(10, 10), (11, 10), (256, 2), (118, 16), (7, 3), (49, 1)])
def test_a_validation_follows_every_nth_epoch_and_the_end(
    epochs: int, every: int, images: int, per_step: int
) -> None:
    length = plan(TrainSettings(epochs=epochs), images, per_step)
    found = [step for step in range(1, length.steps + 1) if validates(length, step, float(every))]
    # The first step after which the images of n times `every` epochs are seen, in whole numbers.
    ends = [-(-count * images // per_step) for count in range(every, epochs + 1, every)]
    assert found == sorted({*ends, length.steps})
    assert len(found) == epochs // every + (epochs % every > 0)


def test_a_step_that_spans_several_epochs_is_followed_by_one_validation() -> None:
    length = plan(TrainSettings(epochs=10), 4, 16)
    assert [validates(length, step, 1.0) for step in range(1, length.steps + 1)] == [True] * 3


@pytest.mark.parametrize(
    ("every", "steps"), [(0.25, [4, 8, 12, 16, 20]), (0.375, [6, 12, 18, 20]), (0.01, list(range(1, 21)))]
)
def test_a_validation_may_follow_a_fraction_of_an_epoch(every: float, steps: list[int]) -> None:
    length = Length(steps=20, images_per_step=2, num_images=32)
    assert [step for step in range(1, 21) if validates(length, step, every)] == steps


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        (ScheduleSettings(warmup=0.25, drop_at=0.5), [1 / 3, 2 / 3, 1, 1, 0.1, 0.1, 0.1, 0.1]),
        (ScheduleSettings(drop_at=2 / 3, drop_factor=0.5), [1, 1, 1, 1, 0.5, 0.5]),
        (ScheduleSettings(drop_at=0.5), [1, 1, 0.1]),
        (ScheduleSettings(drop_at=1), [1] * 7),
        (ScheduleSettings(drop_at=0), [0.1] * 3),
        (ScheduleSettings(warmup=0.1, drop_at=1), [1 / 1.5, 1, 1, 1, 1]),
        (ScheduleSettings(warmup=1, drop_at=1), [1 / 5, 2 / 5, 3 / 5, 4 / 5]),
        (ScheduleSettings(), [1]),
    ],
    ids=str,
)
def test_the_rate_rises_stays_and_drops(settings: ScheduleSettings, factors: list[float]) -> None:
    found = [rate_factor(settings, step, len(factors)) for step in range(len(factors))]
    assert found == pytest.approx(factors)


def test_the_published_run_drops_after_200_of_300_epochs() -> None:
    length = plan(TrainSettings(), 118_287, 64)
    settings = ScheduleSettings()
    last, first = 369_647, 369_648  # 200 x 118,287 / 64 = 369,646.9
    assert rate_factor(settings, last - 1, length.steps) == 1
    assert rate_factor(settings, first, length.steps) == 0.1
