"""From a normalised image of 800 x 1066 to its detections, one at a time, postprocessing included.

Each side is made ready once for weights that stay: detrkit by ``frozen``, as ``Predictor`` and ``evaluate``
do, and the peer by ``eval``, as its documentation says.
"""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from contestants import build_ours, build_peer, copy_weights, draw_images
from harness import count_flops, in_precision, parse, record, speedup, take_turns
from roofline import matmul, share
from transformers import DetrImageProcessor

from detrkit.detectors.detector import Detector
from detrkit.inference.detect import detect
from detrkit.inference.frozen import frozen
from detrkit.structures import Images

ORIGINAL = [(480, 640)]
"""Height and width that boxes are given in."""


def main(options: Namespace) -> None:
    ours, peer = build_ours(options.device, options.short), build_peer(options.device, options.short)
    copy_weights(peer, ours)
    # unmasked, on both sides: nothing is padded
    images = Images(draw_images(1, *(64, 96) if options.short else (800, 1066), options.device).pixels)
    size = 256 if options.short else 2048
    ways: dict[str, Callable[[], Any]] = {}
    for precision in ("fp32", "bf16"):
        ways[f"peer {precision}"] = peer_detection(peer, images, precision)
        ways[f"detrkit {precision}"] = our_detection(ours, images, precision)
        ways[f"matmul {precision}"] = matmul(size, options.device, precision)
    flops = count_flops(ways["detrkit fp32"])
    times = take_turns(ways, options)

    figure = "inference, batch 1 at 800 x 1066"
    rows = [
        speedup(f"{figure}, fp32", times, peer="peer fp32", ours="detrkit fp32", target=1.6),
        speedup(
            f"{figure}, bf16 against the peer's fp32", times, peer="peer fp32", ours="detrkit bf16", target=4
        ),
        speedup(f"{figure}, bf16 against the peer's bf16", times, peer="peer bf16", ours="detrkit bf16"),
        share("inference", "fp32", times, flops, size),
        share("inference", "bf16", times, flops, size),
    ]
    record(options, rows, seconds=times, flops=flops)


def our_detection(detector: Detector, images: Images, precision: Any) -> Callable[[], Any]:
    """detrkit's detections, by what ``evaluate`` and ``Predictor`` call for every batch."""
    answering = frozen(detector, precision)
    return lambda: detect(answering, images, ORIGINAL, precision)


def peer_detection(model: Any, images: Images, precision: str) -> Callable[[], Any]:
    """The same as a user of transformers would write it."""
    model.eval()
    processor, device = DetrImageProcessor(), images.pixels.device.type

    @torch.inference_mode()
    def run() -> Any:
        with in_precision(device, precision):
            output = model(images.pixels)
        return processor.post_process_object_detection(output, threshold=0, target_sizes=ORIGINAL)

    return run


if __name__ == "__main__":
    main(parse(__doc__, repeats=15))
