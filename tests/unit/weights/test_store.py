import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from detrkit.catalog import Category
from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment, recipe
from detrkit.weights import store

CATEGORIES = (
    Category(1, "cat"),
    Category(90, "кошка 猫 🐈"),
    Category(3, 'a "quoted"\nname'),
    Category(12, "N/A", used=False),
)


def tensors() -> dict[str, Tensor]:
    values = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    values[0] = torch.tensor([float("nan"), -0.0, float("inf"), 1e-45])
    return {
        "weight": values,
        "transposed": values.T,
        "half": values.to(torch.bfloat16),
        "double": values.double(),
        "count": torch.tensor(2**60 + 1),
        "empty": torch.zeros(0, 3),
        "trained": torch.nn.Parameter(values.clone()),
    }


@pytest.fixture
def experiment() -> Experiment:
    return recipe("detr_r50", {"optim.lr": 2e-4, "data.train_split": "ünï"})


@pytest.fixture
def written(tmp_path: Path, experiment: Experiment) -> Path:
    path = tmp_path / "model.safetensors"
    store.write(path, tensors(), experiment, CATEGORIES)
    return path


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert (
            found[name].numpy(force=True).tobytes() == value.detach().contiguous().numpy().tobytes()
            if (value.dtype != torch.bfloat16)
            else torch.equal(found[name].view(torch.int16), value.view(torch.int16))
        )


def refusal(path: Path) -> str:
    with pytest.raises(DetrkitError) as caught:
        store.read(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_what_is_written_is_read_back_bit_for_bit(written: Path, experiment: Experiment) -> None:
    stored = store.read(written)
    assert stored.experiment == experiment
    assert stored.categories == CATEGORIES
    assert all(isinstance(category, Category) for category in stored.categories)
    assert_same_bits(stored.tensors, tensors())


def test_the_same_content_makes_the_same_file(written: Path, experiment: Experiment, tmp_path: Path) -> None:
    store.write(tmp_path / "again.safetensors", tensors(), experiment, CATEGORIES)
    assert (tmp_path / "again.safetensors").read_bytes() == written.read_bytes()


def test_nothing_but_the_file_is_left_in_the_folder(written: Path) -> None:
    assert list(written.parent.iterdir()) == [written]


def test_any_safetensors_reader_reads_the_weights(written: Path) -> None:
    with safe_open(written, framework="pt") as opened:
        assert set(opened.keys()) == set(tensors())
        assert torch.equal(opened.get_tensor("double"), tensors()["double"]) is False  # it holds a NaN
        assert torch.equal(opened.get_tensor("double")[1:], tensors()["double"][1:])


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(written: Path, share: float) -> None:
    content = written.read_bytes()
    written.write_bytes(content[: int(share * len(content))])
    assert "is not a readable safetensors file" in refusal(written)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x02.", b"\xff" * 64, b"PK\x03\x04" + 60 * b"\0"], ids=str
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert "is not a readable safetensors file" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    refusal(tmp_path / "nowhere.safetensors")
    refusal(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_somebody_elses_safetensors_file_is_refused(tmp_path: Path, metadata: dict | None) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    assert "is a safetensors file, but" in refusal(path)


def rewrite(path: Path, change) -> None:
    """Write the file again after ``change`` has had its way with what it says about itself."""
    values, metadata = store.read_tensors(path)
    about = json.loads(metadata["detrkit"])
    about = change(about) or about
    store.write_tensors(path, values, {"detrkit": json.dumps(about)})


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("experiment") and None,
        lambda about: about.pop("categories") and None,
        lambda about: about.pop("version") and None,
        lambda about: about | {"experiment": None},
        lambda about: about | {"experiment": [1]},
        lambda about: about | {"categories": 3},
        lambda about: about | {"categories": [[1]]},
        lambda about: about | {"categories": [["one", "cat", True]]},
        lambda about: about | {"categories": [1]},
        lambda about: [1, 2],
        lambda about: "about",
        lambda about: 3,
    ],
)
def test_damaged_metadata_is_refused(written: Path, change) -> None:
    rewrite(written, change)
    refusal(written)


def test_metadata_that_is_not_json_is_refused(written: Path) -> None:
    store.write_tensors(written, {"weight": torch.zeros(3)}, {"detrkit": '{"version": 1'})
    assert "damaged metadata" in refusal(written)


def test_another_version_is_refused(written: Path) -> None:
    rewrite(written, lambda about: about | {"version": 999})
    assert "999" in refusal(written)


def test_settings_that_this_detrkit_does_not_know_are_refused(written: Path) -> None:
    rewrite(written, lambda about: about | {"experiment": {"optim": {"lrr": 1}}})
    assert "did you mean 'optim.lr'" in refusal_of_settings(written)


def refusal_of_settings(path: Path) -> str:
    with pytest.raises(DetrkitError, match=str(path)) as caught:
        store.read(path)
    return str(caught.value)


def write_half(values: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.write_bytes(b"half of a file")
    raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_the_previous_file(
    written: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written.read_bytes()
    monkeypatch.setattr(store, "save_file", write_half)
    with pytest.raises(OSError, match="No space left"):
        store.write(written, {"weight": torch.zeros(3)}, experiment, ())
    assert written.read_bytes() == before


def test_a_file_appears_only_when_it_is_complete_and_flushed(
    tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    flushed: list[bool] = []
    fsync = store.os.fsync

    def watch(descriptor: int) -> None:
        flushed.append(path.exists())
        fsync(descriptor)

    monkeypatch.setattr(store.os, "fsync", watch)
    store.write(path, tensors(), experiment, CATEGORIES)
    # The content before it has its name, and the folder after.
    assert flushed == [False, True]


def test_a_file_that_reads_back_other_than_written_never_gets_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = tmp_path / "model.safetensors", torch.tensor([1.0, float("nan"), -0.0])
    store.write_tensors(path, {"weight": kept}, {})
    before = path.read_bytes()

    def write_zero_for_minus_zero(tensors: dict, file: Path, metadata: dict) -> None:
        save_file({name: tensor + 0.0 for name, tensor in tensors.items()}, file, metadata)

    monkeypatch.setattr(store, "save_file", write_zero_for_minus_zero)
    with pytest.raises(OSError, match="tensor weight reads back other than it was written"):
        store.write_tensors(path, {"weight": kept}, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
