import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

import detrkit
from detrkit.errors import DetrkitError
from detrkit.monitoring.trackers import Trackers


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return {
        name: [(point.step, pytest.approx(point.value)) for point in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def test_tensorboard_reads_every_number_under_its_step(events: Any, tell: Callable, tmp_path: Path) -> None:
    told = [events.stepped(1), events.stepped(2), events.validated(2, raw=True), events.finished(2)]
    tell(Trackers(tmp_path, ["tensorboard"]), events.started(), *told)
    figures = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert curves(tmp_path) == {
        "train/loss": [(1, 10.0), (2, 5.0)],
        "train/l1/layer1": [(1, 0.5), (2, 1.0)],
        "train/l1/layer2": [(1, 0.25), (2, 0.5)],
        "train/mean": [(1, 0.1), (2, 0.1)],
        "gradient_norm/all": [(1, 7.5), (2, 7.5)],
        "gradient_norm/backbone": [(1, 4.5), (2, 4.5)],
        "gradient_norm/rest": [(1, 6.0), (2, 6.0)],
        "update_ratio/backbone": [(1, 1e-4)],
        "update_ratio/rest": [(1, 2e-3)],
        "rate/backbone": [(1, 1e-5), (2, 1e-5)],
        "rate/rest": [(1, 3e-4), (2, 3e-4)],
        "speed/images_per_second": [(1, 4.0), (2, 4.0)],
        "speed/data_share": [(1, 0.25), (2, 0.25)],
        "memory/bytes": [(1, 1_000_001), (2, 1_000_002)],
        **{f"validation/{name}": [(2, number / 100)] for number, name in enumerate(figures, start=1)},
        **{f"validation_raw/{name}": [(2, number / 200)] for number, name in enumerate(figures, start=1)},
    }


def test_a_resumed_runs_curve_has_every_step_once(
    events: Any, tell: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # files of one second are read in the order of a count's digits, in which 10 comes before 9
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    steps = [events.stepped(step) for step in (1, 2, 3, 4)]
    tell(Trackers(tmp_path, ["tensorboard"]), events.started(), *steps, events.interrupted(4))
    again = [events.stepped(step, loss=0.5) for step in (3, 4, 5)]
    tell(Trackers(tmp_path, ["tensorboard"]), events.started(step=2), *again, events.finished(5))
    assert curves(tmp_path)["train/loss"] == [(1, 10.0), (2, 5.0), (3, 0.5), (4, 0.5), (5, 0.5)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's writer
def test_a_tracker_that_cannot_write_is_let_go_and_said_once(
    events: Any, tell: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, before = tmp_path / "run", set(threading.enumerate())
    trackers = Trackers(folder, ["tensorboard"])
    tell(trackers, events.started(), events.stepped(1))
    folder.rename(tmp_path / "away")
    tell(trackers, *(events.stepped(step) for step in (2, 3, 4)), events.validated(4), events.finished(4))
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"tensorboard of {folder} cannot write its curves (No such file or directory)" in said
    assert curves(tmp_path / "away")["train/loss"] == [(1, 10.0)]
    for thread in (
        set(threading.enumerate()) - before
    ):  # what its thread raises belongs to this test and to no other
        if isinstance(thread, event_file_writer._AsyncWriterThread):
            thread.join(timeout=30)


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_detr: dict[str, object], name: str
) -> None:
    monkeypatch.setattr("detrkit.monitoring.trackers.find_spec", lambda name: None)
    experiment = detrkit.recipe("detr_r50", small_detr | {"train.trackers": [name]})
    with pytest.raises(DetrkitError, match=f"train.trackers has {name}.*pip install {name}"):
        next(detrkit.fit(experiment, tmp_path / "no data", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


class Recorder:
    """Stands for the packages of trackers: notes how each is opened, and what is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[dict[str, Any]] = []
        self.written: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.parameters: dict[str, str] = {}
        for name in ("wandb", "trackio"):
            module: Any = ModuleType(name)
            module.init = self.open
            monkeypatch.setitem(sys.modules, name, module)
        module = ModuleType("mlflow")
        module.search_experiments = lambda filter_string: [SimpleNamespace(experiment_id="7")]
        module.start_run = self.open
        module.log_metrics = self.log
        module.log_params = self.parameters.update
        module.end_run = self.finish
        limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=50)
        module.utils = SimpleNamespace(validation=limits)
        monkeypatch.setitem(sys.modules, "mlflow", module)
        monkeypatch.setattr("detrkit.monitoring.trackers.find_spec", lambda name: object())

    def open(self, **given: Any) -> Any:
        self.opened.append(given)
        identity = SimpleNamespace(run_id=given.get("run_id") or "made by the server")
        return SimpleNamespace(log=self.log, finish=self.finish, info=identity)

    def log(self, values: dict[str, float], step: int) -> None:
        self.written.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_resumed_run_goes_on_under_its_name(
    events: Any, tell: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    recorder = Recorder(monkeypatch)
    tell(Trackers(tmp_path, [name]), events.started(), events.stepped(1), events.interrupted(1))
    tell(Trackers(tmp_path, [name]), events.started(step=1), events.stepped(2), events.finished(2))
    first, second = recorder.opened
    assert [step for step, _ in recorder.written] == [1, 2]
    assert recorder.written[1][1]["gradient_norm/backbone"] == 4.5
    assert recorder.finished == 2
    known = json.loads((tmp_path / "trackers.json").read_text())
    assert known["run"].startswith(f"{tmp_path.name}-")
    if name == "mlflow":
        assert (first["run_id"], second["run_id"]) == (None, "made by the server")
        assert first["run_name"] == known["run"]
        assert recorder.parameters["optim.lr"] == 1e-4
    else:
        key = {"wandb": "id", "trackio": "name"}[name]
        assert first[key] == second[key] == known["run"]
        assert second["resume"] == "allow"
        assert (first["project"], first["config"]["optim.lr"]) == ("detrkit", 1e-4)


@pytest.mark.parametrize("text", ["", "[]", '{"run": 5}', "[" * 100_000])
def test_where_its_name_is_lost_a_resumed_run_begins_new_curves_and_says_so(
    events: Any,
    tell: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
) -> None:
    recorder, path = Recorder(monkeypatch), tmp_path / "trackers.json"
    path.write_text(text)
    tell(Trackers(tmp_path, ["wandb"]), events.started(step=1), events.stepped(2))
    assert recorder.opened[0]["id"] == json.loads(path.read_text())["run"]
    assert [step for step, _ in recorder.written] == [2]
    assert f"{path} cannot be read" in caplog.text


def test_a_disk_that_takes_no_name_costs_no_curve(
    events: Any,
    tell: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder(monkeypatch)
    tell(Trackers(tmp_path / "away", ["wandb"]), events.started(), events.stepped(1))
    assert [step for step, _ in recorder.written] == [1]
    assert "trackers.json cannot be written (No such file or directory)" in caplog.text


class MlflowException(Exception):  # noqa: N818  # as mlflow names it
    """What mlflow raises for a server that is away; it is no OSError."""


@pytest.mark.parametrize("moment", ["at its start", "at a step", "at its end"])
def test_a_tracker_whose_server_fails_is_let_go_and_said_once(
    events: Any,
    tell: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    moment: str,
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise MlflowException("API request to /api/2.0/mlflow failed\nwith exception timed out")

    Recorder(monkeypatch)
    name = {"at its start": "start_run", "at a step": "log_metrics", "at its end": "end_run"}[moment]
    setattr(sys.modules["mlflow"], name, fail)
    trackers = Trackers(tmp_path, ["mlflow", "tensorboard"])
    tell(trackers, events.started(), events.stepped(1), events.stepped(2), events.finished(2))
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("detrkit")]
    assert f"mlflow of {tmp_path} cannot write its curves (MlflowException: API request" in said
    assert "failed with exception timed out)" in said
    assert curves(tmp_path)["train/loss"] == [(1, 10.0), (2, 5.0)]
