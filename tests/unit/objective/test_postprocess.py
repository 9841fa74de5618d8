import torch

from detrkit.objective.postprocess import postprocess
from detrkit.scoring import Softmax
from detrkit.structures import DetrOutput


def test_the_last_layers_boxes_are_scaled_to_each_original_image_best_first() -> None:
    probabilities = torch.tensor(
        [
            [[0.2, 0.1, 0.7], [0.1, 0.6, 0.3]],
            [[0.5, 0.3, 0.2], [0.25, 0.3, 0.45]],
        ]
    )
    boxes = torch.tensor(
        [
            [[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 0.2]],
            [[0.1, 0.2, 0.2, 0.4], [0.9, 0.9, 0.4, 0.2]],
        ]
    )
    last = DetrOutput(probabilities.log()[None], boxes[None])
    first = DetrOutput(torch.rand(1, 2, 2, 3), torch.rand(1, 2, 2, 4))
    output = DetrOutput(*(torch.cat([first[field], last[field]]) for field in (0, 1)))

    wide, tall = postprocess(output, [(480, 640), (1000, 100)], Softmax(0.1))

    torch.testing.assert_close(wide.scores, torch.tensor([0.6, 0.2]))
    assert wide.labels.tolist() == [1, 0]
    torch.testing.assert_close(wide.boxes, torch.tensor([[0.0, 192, 320, 288], [0, 0, 640, 480]]))
    torch.testing.assert_close(tall.scores, torch.tensor([0.5, 0.3]))
    assert tall.labels.tolist() == [0, 1]
    # The second reaches over the border, as the original leaves it.
    torch.testing.assert_close(tall.boxes, torch.tensor([[0.0, 0, 20, 400], [70, 800, 110, 1000]]))


def test_scores_are_float32_whatever_the_network_computed_in() -> None:
    output = DetrOutput(torch.rand(1, 1, 2, 3).bfloat16(), torch.rand(1, 1, 2, 4).bfloat16())
    (found,) = postprocess(output, [(480, 640)], Softmax(0.1))
    assert found.boxes.dtype == found.scores.dtype == torch.float32
