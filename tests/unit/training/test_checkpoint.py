import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW

from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.settings.training import AdamWSettings, OptimSettings, SgdSettings
from detrkit.training import checkpoint
from detrkit.training.averaging import Average
from detrkit.training.checkpoint import Progress, State
from detrkit.training.optimise import build_optimizer, set_rates
from detrkit.weights import store

ADAMW = AdamWSettings(lr=0.01, backbone_lr=0.001)
SGD = SgdSettings(lr=0.01, backbone_lr=0.001)
EXPERIMENT = {"optim": {"lr": 2e-4}, "data": {"train_split": "ünï"}}


@pytest.fixture
def build_state(build_tiny: Callable) -> Callable[..., State]:
    """A state at step 0, with the weights of ``seed``."""

    def build(seed: int = 0, averaged: bool = True, optim: OptimSettings = ADAMW) -> State:
        detector = build_tiny(seed)
        optimizer = build_optimizer(detector, optim)
        set_rates(optimizer, 1.0)
        average = Average(detector, 0.9) if averaged else None
        return State(Progress(), detector, optimizer, average, None)

    return build


def train(state: State, steps: int) -> None:
    state.detector.train()
    for _ in range(steps):
        state.detector.step(state.optimizer, state.progress.step)
        if state.average is not None:
            state.average.update(state.detector, torch.ones(()))
        state.progress.step += 1


def assert_equal(found: State, expected: State) -> None:
    assert found.progress == expected.progress
    for name, value in expected.detector.state_dict().items():
        assert torch.equal(found.detector.state_dict()[name], value), name
    for left, right in zip(found.detector.parameters(), expected.detector.parameters(), strict=True):
        ours, theirs = found.optimizer.state.get(left, {}), expected.optimizer.state.get(right, {})
        assert ours.keys() == theirs.keys()
        assert all(
            torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours
        )
    assert (found.average is None) == (expected.average is None)
    if found.average is not None and expected.average is not None:
        assert found.average.count == expected.average.count
        for name, value in expected.average.module.state_dict().items():
            assert torch.equal(found.average.module.state_dict()[name], value), name


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("optim", [ADAMW, SGD], ids=["adamw", "sgd"])
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_restored_state_is_the_saved_one_and_goes_on_alike(
    build_state: Callable[..., State], tmp_path: Path, averaged: bool, steps: int, optim: OptimSettings
) -> None:
    saved = build_state(0, averaged, optim)
    train(saved, steps)
    saved.progress.best_ap, saved.progress.best_step, saved.progress.validations_without_gain = (
        0.1 + 0.2,
        2,
        1,
    )
    checkpoint.save(tmp_path / "last", saved, EXPERIMENT)
    restored = build_state(1, averaged, optim)
    checkpoint.restore(tmp_path / "last", restored)
    assert_equal(restored, saved)
    train(saved, 3)
    train(restored, 3)
    assert_equal(restored, saved)


def test_the_moments_of_adam_are_those_of_torchs_own_state_dict(
    build_state: Callable[..., State], tmp_path: Path
) -> None:
    saved, restored = build_state(0), build_state(1)
    train(saved, 3)
    checkpoint.save(tmp_path, saved, EXPERIMENT)
    checkpoint.restore(tmp_path, restored)
    assert isinstance(saved.optimizer, AdamW)
    ours, theirs = restored.optimizer.state_dict()["state"], saved.optimizer.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    assert len(ours) == 6
    for number, values in theirs.items():
        assert set(values) == {"step", "exp_avg", "exp_avg_sq"}
        assert ours[number]["step"].item() == 3
        assert all(torch.equal(ours[number][key], value) for key, value in values.items())


def test_a_state_in_double_precision_is_restored_in_it(
    build_state: Callable[..., State], tmp_path: Path
) -> None:
    saved, restored = build_state(0, False), build_state(1, False)
    for state in (saved, restored):
        state.detector.double()
    saved.detector.body[2].weight.grad = torch.rand(4, 4, dtype=torch.float64)
    saved.optimizer.step()
    checkpoint.save(tmp_path, saved, EXPERIMENT)
    checkpoint.restore(tmp_path, restored)
    assert_equal(restored, saved)
    assert restored.optimizer.state[restored.detector.body[2].weight]["exp_avg"].dtype == torch.float64


@pytest.mark.filterwarnings("ignore:.*a meta parameter in the current model, which is a no-op")
def test_what_adam_has_of_a_parameter_is_on_its_device(
    build_state: Callable[..., State], build_tiny: Callable[[int], Detector], tmp_path: Path
) -> None:
    """The count of steps too, which its fused kernel reads there."""
    saved = build_state(averaged=False)
    train(saved, 2)
    checkpoint.save(tmp_path, saved, EXPERIMENT)
    detector = build_tiny(1).to("meta")
    optimizer = build_optimizer(detector, ADAMW)
    checkpoint.restore(tmp_path, State(Progress(), detector, optimizer, None, None))
    for parameter in detector.parameters():
        if parameter.requires_grad:
            kept = optimizer.state[parameter]
            assert kept.keys() == {"step", "exp_avg", "exp_avg_sq"}
            assert {value.device.type for value in kept.values()} == {"meta"}


def test_the_settings_of_the_run_are_kept(build_state: Callable[..., State], tmp_path: Path) -> None:
    checkpoint.save(tmp_path, build_state(), EXPERIMENT)
    assert checkpoint.read_experiment(tmp_path) == EXPERIMENT


def test_only_the_newest_tensors_remain(build_state: Callable[..., State], tmp_path: Path) -> None:
    state = build_state()
    for _ in range(3):
        train(state, 1)
        checkpoint.save(tmp_path, state, EXPERIMENT)
    assert files_of(tmp_path) == ["state.json", "tensors-00000003.safetensors"]


def test_what_others_put_beside_the_state_stays(build_state: Callable[..., State], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "mine")
    (tmp_path / "kept.safetensors").write_bytes(b"")
    (tmp_path / ".tensors-00000007.safetensors.writing").mkdir()
    checkpoint.save(tmp_path, build_state(), EXPERIMENT)
    assert files_of(tmp_path) == [
        "kept.safetensors",
        "linked",
        "mine",
        "state.json",
        "tensors-00000000.safetensors",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000])
def test_a_json_that_was_damaged_meanwhile_is_written_anew(
    build_state: Callable[..., State], tmp_path: Path, text: str
) -> None:
    state, restored = build_state(), build_state(1)
    checkpoint.save(tmp_path, state, EXPERIMENT)
    (tmp_path / "state.json").write_text(text)
    train(state, 1)
    checkpoint.save(tmp_path, state, EXPERIMENT)
    assert files_of(tmp_path) == ["state.json", "tensors-00000001.safetensors"]
    checkpoint.restore(tmp_path, restored)
    assert_equal(restored, state)


def test_who_may_read_a_text_file_may_read_the_tensors(
    build_state: Callable[..., State], tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, build_state(), EXPERIMENT)
    json_mode = (tmp_path / "state.json").stat().st_mode
    assert (tmp_path / "tensors-00000000.safetensors").stat().st_mode == json_mode


def test_saving_the_same_step_twice_keeps_it(build_state: Callable[..., State], tmp_path: Path) -> None:
    state, restored = build_state(), build_state(1)
    train(state, 2)
    checkpoint.save(tmp_path, state, EXPERIMENT)
    checkpoint.save(tmp_path, state, EXPERIMENT)
    assert files_of(tmp_path) == ["state.json", "tensors-00000002.safetensors"]
    checkpoint.restore(tmp_path, restored)
    assert_equal(restored, state)


class Killed(BaseException):
    """Stands for a kill: nothing in the code may catch it."""


def die_while_the_tensors_are_written(patch: pytest.MonkeyPatch) -> None:
    def write_half(tensors: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half")
        raise Killed

    patch.setattr(store, "save_file", write_half)


def die_before_the_json_is_there(patch: pytest.MonkeyPatch) -> None:
    replace = store.replace

    def replace_tensors_only(temporary: Path, path: Path) -> None:
        if path.name == "state.json":
            raise Killed
        replace(temporary, path)

    patch.setattr(store, "replace", replace_tensors_only)


def die_before_the_old_tensors_go(patch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise Killed

    patch.setattr(Path, "unlink", refuse)


@pytest.mark.parametrize(
    ("die", "step"),
    [
        (die_while_the_tensors_are_written, 2),
        (die_before_the_json_is_there, 2),
        (die_before_the_old_tensors_go, 4),
    ],
)
def test_a_save_that_dies_leaves_a_whole_state(
    build_state: Callable[..., State], tmp_path: Path, die: Callable, step: int
) -> None:
    state, expected = build_state(), build_state()
    train(state, 2)
    checkpoint.save(tmp_path, state, EXPERIMENT)
    train(state, 2)
    with pytest.MonkeyPatch.context() as patch:
        die(patch)
        with pytest.raises(Killed):
            checkpoint.save(tmp_path, state, EXPERIMENT)

    restored = build_state(1)
    checkpoint.restore(tmp_path, restored)
    train(expected, step)
    assert_equal(restored, expected)

    # The resumed run saves over what was left behind.
    train(restored, 4 - step)
    checkpoint.save(tmp_path, restored, EXPERIMENT)
    assert files_of(tmp_path) == ["state.json", "tensors-00000004.safetensors"]
    checkpoint.restore(tmp_path, restored)
    assert_equal(restored, state)


def refusal(folder: Path, state: State) -> str:
    with pytest.raises(DetrkitError) as caught:
        checkpoint.restore(folder, state)
    text = str(caught.value)
    assert str(folder) in text
    assert "\n" not in text
    return text


def test_a_folder_without_a_state_is_refused(build_state: Callable[..., State], tmp_path: Path) -> None:
    assert "no training state to resume from" in refusal(tmp_path, build_state())
    with pytest.raises(DetrkitError, match="no training state to resume from"):
        checkpoint.read_experiment(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", '{"version": 1', "[]", "null", '{"version": 999}', '{"version": 1}'])
def test_a_damaged_json_is_refused(build_state: Callable[..., State], tmp_path: Path, text: str) -> None:
    checkpoint.save(tmp_path, build_state(), EXPERIMENT)
    (tmp_path / "state.json").write_text(text)
    refusal(tmp_path, build_state())
    with pytest.raises(DetrkitError):
        checkpoint.read_experiment(tmp_path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("tensors", 3),
        ("tensors", "../tensors-00000000.safetensors"),
        ("progress", {"step": "3"}),
        ("progress", {"step": -2}),
        ("progress", {"images_per_step": -2}),
        ("progress", {"best_ap": math.nan}),
        ("progress", {"skipped_images": 5}),
        ("progress", [1]),
        ("optimizer", {"head.weight": 1.0}),
        ("optimizer", {"head.weight": {"step": "x"}}),
        ("average_count", None),
        ("experiment", "detr_r50"),
        ("categories", [["1", "cat"]]),
    ],
)
def test_a_json_of_other_values_is_refused(
    build_state: Callable[..., State], tmp_path: Path, entry: str, value: object
) -> None:
    checkpoint.save(tmp_path, build_state(), EXPERIMENT)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {entry: value}))
    assert "state.json" in refusal(tmp_path, build_state())


@pytest.mark.parametrize("counts", [{}, {"head.weight": {"step": 2.0}}])
def test_a_state_whose_optimiser_has_lost_its_counts_is_refused(
    build_state: Callable[..., State], tmp_path: Path, counts: dict[str, object]
) -> None:
    state = build_state()
    train(state, 2)
    checkpoint.save(tmp_path, state, EXPERIMENT)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"optimizer": counts}))
    assert "the optimiser's counts are not those of its moments" in refusal(tmp_path, build_state())


def test_what_progress_does_not_have_is_not_restored(
    build_state: Callable[..., State], tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, build_state(), EXPERIMENT)
    path = tmp_path / "state.json"
    found = json.loads(path.read_text())
    found["progress"] |= {"step": 7, "__class__": "x", "__dict__": {"step": 9}}
    path.write_text(json.dumps(found))
    restored = build_state()
    checkpoint.restore(tmp_path, restored)
    assert restored.progress == Progress(step=7)


def test_a_json_whose_tensors_are_gone_or_cut_is_refused(
    build_state: Callable[..., State], tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, build_state(), EXPERIMENT)
    path = tmp_path / "tensors-00000000.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert path.name in refusal(tmp_path, build_state())
    path.unlink()
    assert path.name in refusal(tmp_path, build_state())


def test_a_state_of_other_settings_is_refused(build_state: Callable[..., State], tmp_path: Path) -> None:
    saved = build_state(0, averaged=False)
    checkpoint.save(tmp_path, saved, EXPERIMENT)
    assert "does not fit the run's settings" in refusal(tmp_path, build_state(0, averaged=True))
    other = build_state(0, averaged=False)
    other.detector.head = torch.nn.Linear(4, 3)
    text = refusal(tmp_path, other)
    assert "does not fit the run's settings" in text
    assert "head" in text


def test_the_json_holds_nothing_but_json(build_state: Callable[..., State], tmp_path: Path) -> None:
    state = build_state()
    train(state, 1)
    checkpoint.save(tmp_path, state, EXPERIMENT)
    found = json.loads((tmp_path / "state.json").read_text("utf-8"))
    assert found["progress"] == {
        "step": 1,
        "images_per_step": 0,
        "best_ap": -1.0,
        "best_step": 0,
        "judged_on": "",
        "validations_without_gain": 0,
        "validation_due": False,
        "skipped_images": [],
        "skipped_steps": 0,
    }
    assert found["optimizer"]["head.weight"] == {"step": 1.0}
