"""ONNX files: what they are given, which are refused, and a real one where onnxruntime is there."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from detrkit.benchmark.benchmark import benchmark
from detrkit.benchmark.entrant import Entrant, Exported
from detrkit.benchmark.exported import look_of_session, open_session
from detrkit.benchmark.results import Effort
from detrkit.catalog import Catalog
from detrkit.data.collate import MEAN, STD
from detrkit.errors import DetrkitError
from detrkit.structures import ImageSize

CPU = torch.device("cpu")


def put_runtime(monkeypatch: pytest.MonkeyPatch, *inputs: tuple[str, str, list[Any]]) -> list[dict[str, Any]]:
    """A runtime whose files have these inputs; what they are given is in the list that comes back."""
    given: list[dict[str, Any]] = []
    session = SimpleNamespace(
        get_inputs=lambda: [
            SimpleNamespace(name=name, type=kind, shape=shape) for name, kind, shape in inputs
        ],
        run=lambda wanted, feeds: given.append(feeds),
    )
    runtime = SimpleNamespace(
        __version__="9",
        SessionOptions=SimpleNamespace,
        get_available_providers=lambda: ["CPUExecutionProvider"],
        InferenceSession=lambda path, options, providers: session,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return given


def test_without_onnxruntime_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DetrkitError, match="pip install onnxruntime"):
        open_session(Path("a.onnx"), CPU)


def test_floats_are_normalised_and_of_the_size_that_the_file_fixes(
    monkeypatch: pytest.MonkeyPatch, one_image: Catalog
) -> None:
    given = put_runtime(monkeypatch, ("images", "tensor(float)", [1, 3, 32, 48]))
    session = open_session(Path("a.onnx"), CPU)
    look = look_of_session("a", session, one_image, ImageSize(800, 1333), float)
    assert look.largest_batch == 1
    look.answer(batch := look.prepare([0]))
    pixels = batch.images.pixels[0].numpy() / 255
    expected = (pixels - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert given[0]["images"].shape == (1, 3, 32, 48)
    np.testing.assert_allclose(given[0]["images"][0], expected, atol=1e-5)


def test_bytes_stay_bytes_and_sizes_are_those_of_the_originals(
    monkeypatch: pytest.MonkeyPatch, one_image: Catalog
) -> None:
    given = put_runtime(
        monkeypatch, ("pixels", "tensor(uint8)", ["n", 3, "h", "w"]), ("sizes", "tensor(int64)", ["n", 2])
    )
    look = look_of_session("a", open_session(Path("a.onnx"), CPU), one_image, ImageSize(40, 80), float)
    assert look.largest_batch is None
    look.answer(look.prepare([0, 1]))
    assert given[0]["pixels"].dtype == np.uint8
    assert given[0]["pixels"].shape == (2, 3, 40, 40)
    assert given[0]["sizes"].tolist() == [[64, 64], [64, 64]]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([("tokens", "tensor(int64)", ["n", 7])], r"its inputs are tokens tensor\(int64\)"),
        ([("images", "tensor(float16)", ["n", 3, 8, 8])], r"its images are tensor\(float16\)"),
        ([("images", "tensor(float)", [4, 3, 8, 8])], "it takes 4 images at a time"),
    ],
)
def test_inputs_that_are_not_known_are_refused(
    monkeypatch: pytest.MonkeyPatch, inputs: list[tuple[str, str, list[Any]]], reason: str
) -> None:
    put_runtime(monkeypatch, *inputs)
    with pytest.raises(DetrkitError, match=reason):
        open_session(Path("a.onnx"), CPU)


def test_a_real_file_joins_the_tables_of_speed_alone(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx, which makes the file, is not installed")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["images"], ["means"])],
        "means",
        [helper.make_tensor_value_info("images", kind, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("means", kind, ["n", 3, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "means.onnx"
    onnx.save(model, path)
    effort = Effort(turns=1, images=2, batches=(1, 2), memory=False)
    entrants = [Entrant("means", Exported(path))]
    results = benchmark(entrants, data, "val", tmp_path, lambda event: None, effort=effort)
    (row,) = results.rows
    assert row.kind == "onnx"
    assert row.accuracy is None
    assert row.cost is not None
    assert row.cost.bytes == path.stat().st_size
    assert row.cost.multiply_adds == {}
    assert set(row.speed) == {"fp32"}
    assert set(row.speed["fp32"].throughput) == {1, 2}
    assert row.speed["fp32"].p50 > 0
    assert row.training == {}
    assert "onnxruntime" in results.machine

    path.write_bytes(b"no network")
    with pytest.raises(DetrkitError, match="no ONNX file that onnxruntime can run"):
        benchmark(entrants, data, "val", tmp_path, lambda event: None, effort=effort)
