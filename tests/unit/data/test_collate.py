import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from detrkit.data.collate import MEAN, STD, collate, normalise, to_network
from detrkit.structures import Images, Sample


def sample_of(height: int, width: int, boxes: list[list[float]], image_id: int) -> Sample:
    pixels = torch.from_numpy(
        np.random.default_rng(image_id).integers(256, size=(3, height, width), dtype=np.uint8)
    )
    return Sample(
        image=tv_tensors.Image(pixels),
        boxes=tv_tensors.BoundingBoxes(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            format="XYXY",
            canvas_size=(height, width),
        ),
        labels=torch.arange(len(boxes)),
        image_id=image_id,
        original_size=(height * 2, width * 2),
    )


def test_a_batch() -> None:
    samples = [sample_of(6, 8, [[0, 0, 8, 6], [2, 3, 4, 6]], 11), sample_of(10, 5, [], 22)]
    batch = collate(samples)
    assert batch.images.pixels.shape == (2, 3, 10, 8)
    assert batch.image_ids == [11, 22]
    assert batch.original_sizes == [(12, 16), (20, 10)]
    assert batch.images.pixels.dtype == torch.uint8
    assert batch.images.pixels.is_contiguous(memory_format=torch.channels_last)
    images = to_network(batch.images, torch.device("cpu"), torch.float32)
    assert images.valid is not None
    for index, (height, width) in enumerate([(6, 8), (10, 5)]):
        pixels, valid = images.pixels[index].numpy(), images.valid[index].numpy()
        stored = samples[index].image.numpy().transpose(1, 2, 0) / 255
        expected = (stored - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(pixels[:, :height, :width].transpose(1, 2, 0), expected, atol=2e-6)
        assert valid[:height, :width].all()
        assert valid.sum() == height * width
        assert not pixels[:, ~valid].any()
    assert batch.objects[0].boxes.tolist() == [[0.5, 0.5, 1, 1], [0.375, 0.75, 0.25, 0.5]]
    assert batch.objects[0].labels.tolist() == [0, 1]
    assert batch.objects[1].boxes.shape == (0, 4)


def test_a_batch_holds_plain_tensors() -> None:
    batch = collate([sample_of(4, 4, [[0, 0, 1, 1]], 1)])
    tensors = (batch.images.pixels, *batch.objects[0])
    assert all(type(tensor) is torch.Tensor for tensor in tensors)
    assert batch.objects[0].boxes.dtype == torch.float32


def test_images_of_one_size_need_no_mask() -> None:
    batch = collate([sample_of(6, 8, [], 1), sample_of(6, 8, [], 2)])
    assert batch.images.valid is None
    assert to_network(batch.images, torch.device("cpu"), torch.float64).valid is None


def test_normalised_pixels_are_taken_as_they_are() -> None:
    pixels = torch.full((1, 3, 2, 2), 0.25)
    moved = to_network(Images(pixels), torch.device("cpu"), torch.float64)
    assert torch.equal(moved.pixels, pixels.double())


def test_normalisation_is_that_of_imagenet() -> None:
    assert MEAN == (0.485, 0.456, 0.406)
    assert STD == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-10)],
)
@pytest.mark.parametrize("shape", [(2, 3, 150, 31), (3, 70, 5), (1, 3, 1, 1), (0, 3, 4, 4)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_normalised_bytes(
    dtype: torch.dtype, tolerance: float, shape: tuple[int, ...], channels_last: bool
) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8))
    if channels_last:
        pixels = pixels.movedim(-3, -1).contiguous().movedim(-1, -3)
    found = normalise(pixels, dtype)
    assert found.dtype == dtype
    assert found.movedim(-3, -1).is_contiguous()
    channels = np.moveaxis(pixels.double().numpy() / 255, -3, -1)
    expected = np.moveaxis((channels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], -1, -3)
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=tolerance, atol=min(tolerance, 1e-6))


def test_the_padding_is_taken_from_the_mask_wherever_it_is_computed() -> None:
    batch = collate([sample_of(6, 8, [], 1), sample_of(10, 5, [], 2)])
    images = to_network(batch.images, torch.device("cpu"), torch.float32)
    assert images.valid is not None
    expected = normalise(batch.images.pixels).masked_fill(~images.valid[:, None], 0)
    assert torch.equal(images.pixels, expected)
    elsewhere = to_network(batch.images, torch.device("meta"), torch.float32)
    assert elsewhere.pixels.shape == expected.shape
