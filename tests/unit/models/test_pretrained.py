from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from detrkit.errors import DetrkitError
from detrkit.models.backbone import Backbone
from detrkit.models.pretrained import load_pretrained
from detrkit.settings.model import BackboneSettings

IMAGENET_FILE = "resnet18-f37072fd.pth"


@pytest.fixture(scope="module")
def resnet18() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).state_dict()


@pytest.fixture(scope="module")
def saved(resnet18: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18, path)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps what it downloads, while there is no network."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def loaded(weights: str | Path, **others: Any) -> Backbone:
    settings = BackboneSettings(name="resnet18", weights=str(weights), **others)
    with torch.device("meta"):
        backbone = Backbone(settings)
    backbone.to_empty(device="cpu")
    load_pretrained(backbone, settings)
    return backbone


def assert_same_weights(backbone: Backbone, resnet: dict[str, Tensor]) -> None:
    found = backbone.state_dict()
    for name, value in resnet.items():
        if name.startswith(("conv1", "bn1")):
            name = f"stem.{name}"
        if name in found:
            assert torch.equal(found.pop(name), value), name
        else:
            assert name.startswith("fc.") or name.endswith("num_batches_tracked")
    assert all(name.endswith("num_batches_tracked") for name in found)


def write_pth(resnet: dict[str, Tensor], path: Path) -> None:
    torch.save(resnet, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("resnet.pth", write_pth), ("resnet.safetensors", save_file)],
    ids=["pth", "safetensors"],
)
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_torchvision_file_is_loaded_without_its_classifier(
    resnet18: dict[str, Tensor], tmp_path: Path, name: str, write: Callable, norm: str
) -> None:
    write(resnet18, tmp_path / name)
    assert_same_weights(loaded(tmp_path / name, norm=norm), resnet18)


def test_a_file_without_counts_of_batches_is_loaded(resnet18: dict[str, Tensor], tmp_path: Path) -> None:
    older = {name: value for name, value in resnet18.items() if not name.endswith("num_batches_tracked")}
    torch.save(older, tmp_path / "older.pth")
    assert_same_weights(loaded(tmp_path / "older.pth", norm="batch"), older)


@pytest.mark.parametrize("levels", [("layer2",), ("layer3",), ("layer2", "layer3")], ids=" ".join)
def test_stages_that_the_backbone_leaves_out_are_left_out_of_its_weights(
    resnet18: dict[str, Tensor], saved: Path, levels: tuple[str, ...]
) -> None:
    backbone = loaded(saved, levels=levels)
    beyond = [f"layer{number}." for number in range(int(levels[-1][-1]) + 1, 5)]
    assert_same_weights(
        backbone, {name: value for name, value in resnet18.items() if not name.startswith(tuple(beyond))}
    )


def test_a_file_may_lack_the_stages_that_the_backbone_leaves_out(
    resnet18: dict[str, Tensor], tmp_path: Path
) -> None:
    shorter = {name: value for name, value in resnet18.items() if not name.startswith(("layer4", "fc"))}
    torch.save(shorter, tmp_path / "shorter.pth")
    assert_same_weights(loaded(tmp_path / "shorter.pth", levels=("layer3",)), shorter)


def test_a_file_that_lacks_a_stage_of_the_backbone_is_refused(
    resnet18: dict[str, Tensor], tmp_path: Path
) -> None:
    shorter = {name: value for name, value in resnet18.items() if not name.startswith(("layer3", "layer4"))}
    torch.save(shorter, tmp_path / "shorter.pth")
    with pytest.raises(DetrkitError, match=r"tensors are missing .*'layer3\.0\.conv1\.weight'"):
        loaded(tmp_path / "shorter.pth", levels=("layer3",))


def test_none_leaves_the_random_weights() -> None:
    settings = BackboneSettings(name="resnet18", weights="none")
    backbone = Backbone(settings)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    load_pretrained(backbone, settings)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def refusal(weights: str | Path, name: str = "resnet18") -> str:
    settings = BackboneSettings(name=name, weights=str(weights))
    with torch.device("meta"):
        backbone = Backbone(settings)
    backbone.to_empty(device="cpu")
    nn.init.ones_(backbone.stem.conv1.weight)
    with pytest.raises(DetrkitError) as caught:
        load_pretrained(backbone, settings)
    assert (backbone.stem.conv1.weight == 1).all()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_weights_of_another_architecture_are_refused(saved: Path) -> None:
    text = refusal(saved, name="resnet34")
    assert f"{saved} does not hold the weights of resnet34" in text
    assert "'layer1.2.conv1.weight'" in text


def test_a_tensor_of_another_shape_is_refused(resnet18: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(resnet18 | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "grey.pth")
    text = refusal(tmp_path / "grey.pth")
    assert "(64, 1, 7, 7)" in text
    assert "(64, 3, 7, 7)" in text


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(resnet18: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    whole, half = tmp_path / f"whole{suffix}", tmp_path / f"half{suffix}"
    (save_file if suffix == ".safetensors" else write_pth)(resnet18, whole)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert refusal(half).startswith(f"{half} is not a readable file of weights")


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404</html>", b"hello", b".", b"h\x05.", b"\x80\x02]q\x00.", b"\xff" * 100, b"\x80\x04\x95"],
    ids=str,
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert refusal(path).startswith(str(path))


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, torch.zeros(3), {"epoch": 3}], ids=str)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    assert "does not hold a state dict of tensors" in refusal(tmp_path / "other.pth")


@pytest.mark.parametrize("weights", ["file", "imagenet"])
def test_code_in_a_file_is_not_run(tmp_path: Path, hub: Path, weights: str) -> None:
    class Malicious:
        def __reduce__(self) -> tuple:
            return (tmp_path.joinpath("ran").touch, ())

    path = hub / IMAGENET_FILE
    torch.save({"conv1.weight": Malicious()}, path)
    refusal("imagenet" if weights == "imagenet" else path)
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_is_refused_with_what_may_stand_there(tmp_path: Path) -> None:
    text = refusal(tmp_path / "nowhere.pth")
    assert f"'{tmp_path / 'nowhere.pth'}'" in text
    for choice in ("imagenet", "none", ".pth", ".safetensors"):
        assert choice in text


def test_without_a_network_the_file_and_its_folder_are_named(hub: Path) -> None:
    text = refusal("imagenet")
    assert IMAGENET_FILE in text
    assert str(hub) in text
    assert "no network in tests" in text


def test_imagenet_weights_are_taken_from_the_hubs_folder(hub: Path, resnet18: dict[str, Tensor]) -> None:
    torch.save(resnet18, hub / IMAGENET_FILE)
    assert_same_weights(loaded("imagenet"), resnet18)


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>"], ids=str)
def test_a_broken_file_in_the_hubs_folder_is_named(hub: Path, content: bytes) -> None:
    (hub / IMAGENET_FILE).write_bytes(content)
    assert IMAGENET_FILE in refusal("imagenet")
