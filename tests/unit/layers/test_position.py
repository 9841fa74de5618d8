import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.models.dab_detr.modeling_dab_detr import encode_sinusoidal_position_embedding

from detrkit.errors import DetrkitError
from detrkit.layers.position import LearnedPosition, SinePosition, box_code, sine_code


def padded(height: int, width: int, *sizes: tuple[int, int]) -> Tensor:
    valid = torch.zeros(len(sizes), height, width, dtype=torch.bool)
    for image, (rows, columns) in zip(valid, sizes, strict=True):
        image[:rows, :columns] = True
    return valid


def original_sine(valid: np.ndarray, num_pos_feats: int) -> np.ndarray:
    """DETR's PositionEmbeddingSine (models/position_encoding.py, normalize=True), in NumPy."""
    temperature, scale, eps = 10000, 2 * np.pi, 1e-6
    y_embed = np.cumsum(valid, axis=1, dtype=np.float64)
    x_embed = np.cumsum(valid, axis=2, dtype=np.float64)
    y_embed = y_embed / (y_embed[:, -1:, :] + eps) * scale
    x_embed = x_embed / (x_embed[:, :, -1:] + eps) * scale
    code = np.zeros((*valid.shape, 2 * num_pos_feats))
    for index in range(num_pos_feats):
        period = temperature ** (2 * (index // 2) / num_pos_feats)
        wave = np.sin if index % 2 == 0 else np.cos
        code[..., index] = wave(y_embed / period)
        code[..., num_pos_feats + index] = wave(x_embed / period)
    return code


VALID = padded(6, 9, (6, 9), (4, 7), (1, 2), (6, 1))


def test_sine_position_is_the_originals() -> None:
    code = SinePosition(32, 1e4)(VALID, torch.float64)
    np.testing.assert_allclose(code.numpy(), original_sine(VALID.numpy(), 16), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sine_position_in_lower_precision_is_the_rounded_code(dtype: torch.dtype) -> None:
    # A map as wide as DC5's of an image of 1333 pixels. Whatever the precision that the code is asked
    # for, its values lie in [-1, 1], so that only their last bit may differ.
    valid = padded(50, 84, (50, 84), (37, 61))
    code = SinePosition(32, 1e4)(valid, dtype)
    assert code.dtype == dtype
    error = np.abs(code.double().numpy() - original_sine(valid.numpy(), 16))
    worst = error[valid.numpy()].max()
    assert worst < max(torch.finfo(dtype).eps, 1e-5)


def test_padding_does_not_change_the_code_of_an_image() -> None:
    alone = SinePosition(32, 1e4)(padded(4, 7, (4, 7)), torch.float64)
    torch.testing.assert_close(
        SinePosition(32, 1e4)(VALID, torch.float64)[1, :4, :7], alone[0], rtol=0, atol=0
    )


def test_sine_code_of_zero_alternates_between_0_and_1() -> None:
    assert sine_code(torch.zeros(3), 6).tolist() == [[0, 1] * 3] * 3


def test_sine_code_takes_any_temperature() -> None:
    code = sine_code(torch.tensor([0.7]), 4, temperature=20.0)
    expected = [np.sin(0.7), np.cos(0.7), np.sin(0.7 / 20**0.5), np.cos(0.7 / 20**0.5)]
    np.testing.assert_allclose(code[0].numpy(), expected, rtol=1e-6)


def test_learned_position_is_the_column_and_then_the_row() -> None:
    torch.manual_seed(0)
    position = LearnedPosition(8)
    code = position(padded(3, 5, (3, 5), (2, 2)), torch.float32)
    assert code.shape == (2, 3, 5, 8)
    for row in range(3):
        for column in range(5):
            expected = torch.cat([position.columns[column], position.rows[row]])
            assert torch.equal(code[0, row, column], expected)
            assert torch.equal(code[1, row, column], expected)


def test_learned_position_starts_uniform_between_0_and_1() -> None:
    torch.manual_seed(0)
    for table in LearnedPosition(256).parameters():
        assert table.shape == (50, 128)
        assert table.min() >= 0
        assert table.mean().item() == pytest.approx(0.5, abs=0.02)
        assert table.std().item() == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize("size", [(51, 3), (3, 51)])
def test_learned_position_refuses_a_map_beyond_its_table(size: tuple[int, int]) -> None:
    with pytest.raises(DetrkitError, match=rf"{size[0]} x {size[1]}.*50 x 50.*data\.max_size"):
        LearnedPosition(8)(padded(*size, size), torch.float32)


def test_learned_position_reaches_to_50() -> None:
    assert LearnedPosition(8)(padded(50, 50, (50, 50)), torch.float32).shape == (1, 50, 50, 8)


@pytest.mark.parametrize("coordinates", [2, 4], ids=["points", "boxes"])
def test_box_code_is_that_of_transformers(coordinates: int) -> None:
    places = torch.rand(3, 5, coordinates, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = encode_sinusoidal_position_embedding(places, num_pos_feats=16)
    # Theirs takes its frequencies in float32.
    torch.testing.assert_close(box_code(places, 32), expected.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("coordinates", [2, 4], ids=["points", "boxes"])
@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_box_code_has_a_gradient_at_the_borders_of_the_image(coordinates: int, edge: float) -> None:
    places = torch.full((coordinates,), edge, requires_grad=True)
    code = box_code(places, 8)
    assert code.shape == (4 * coordinates,)
    code[0::2].sum().backward()
    assert places.grad is not None
    # Of sin(2 pi x / 10000 ** (i / 4)) for i of 0 and 2.
    slope = sum(2 * np.pi / period * np.cos(2 * np.pi * edge / period) for period in (1, 100))
    np.testing.assert_allclose(places.grad.numpy(), np.full(coordinates, slope), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1e4, 20.0])
def test_the_code_of_a_point_is_that_of_the_cell_whose_far_corner_it_is(temperature: float) -> None:
    height, width = 4, 7
    cells = SinePosition(32, temperature)(padded(6, 9, (height, width)), torch.float64)[0]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([(columns + 1) / width, (rows + 1) / height], dim=-1).double()
    torch.testing.assert_close(box_code(points, 32, temperature), cells[:height, :width], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [SinePosition, LearnedPosition])
def test_without_padding_one_code_serves_all_images(kind: type) -> None:
    position = SinePosition(32, 20.0) if kind is SinePosition else LearnedPosition(32)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for height, width in ((3, 7), (7, 3), (3, 7)):
            code = position.everywhere(torch.zeros(2, 8, height, width, dtype=dtype))
            assert torch.equal(code, position(padded(height, width, (height, width)), dtype))


def test_a_code_is_computed_once_per_size_width_and_temperature() -> None:
    values = torch.zeros(2, 8, 5, 11)
    code = SinePosition(32, 1e4).everywhere(values)
    assert SinePosition(32, 1e4).everywhere(values + 1) is code
    assert SinePosition(64, 1e4).everywhere(values).shape[-1] == 64
    assert not torch.equal(SinePosition(32, 20.0).everywhere(values), code)


def test_a_code_that_was_first_needed_in_inference_serves_training() -> None:
    values = torch.zeros(1, 8, 13, 17)
    with torch.inference_mode():
        SinePosition(32, 1e4).everywhere(values)
    weights = torch.ones(32, requires_grad=True)
    (SinePosition(32, 1e4).everywhere(values) * weights).sum().backward()
    assert weights.grad is not None


def test_a_code_of_shapes_alone_is_not_remembered() -> None:
    with FakeTensorMode():
        SinePosition(32, 1e4).everywhere(torch.zeros(1, 8, 19, 23))
    assert type(SinePosition(32, 1e4).everywhere(torch.zeros(1, 8, 19, 23))) is Tensor
