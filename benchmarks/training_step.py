"""A whole training step: forward, loss, backward, clipping and AdamW, of two images of 480 x 640.

Both networks train with dropout, both losses have their auxiliary terms, both have torch's fused AdamW.
"""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from contestants import as_labels, build_ours, build_peer, copy_weights, draw_images, draw_objects
from harness import (
    count_flops,
    in_precision,
    parse,
    record,
    speedup,
    take_turns,
)
from roofline import matmul, share
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from detrkit.detectors.detector import Detector
from detrkit.objective.criterion import count_totals
from detrkit.settings.training import AdamWSettings
from detrkit.structures import Images
from detrkit.training.optimise import build_optimizer

Step = Callable[[], object]
OBJECTS = [7, 12]
OPTIM = AdamWSettings()


def main(options: Namespace) -> None:
    ours, peer = build_ours(options.device, options.short), build_peer(options.device, options.short)
    copy_weights(peer, ours)
    images = step_images(options.device, options.short)
    size = 256 if options.short else 2048
    ways: dict[str, Step] = {}
    for precision in ("fp32", "bf16"):
        ways[f"peer {precision}"] = peer_step(peer, images, precision)
        ways[f"detrkit {precision}"] = our_step(ours, images, precision)
        ways[f"matmul {precision}"] = matmul(size, options.device, precision)
    flops = count_flops(ways["detrkit fp32"])
    times = take_turns(ways, options)

    figure = "training step, 2 x 480 x 640"
    rows = [
        speedup(f"{figure}, fp32", times, peer="peer fp32", ours="detrkit fp32", target=1.4),
        speedup(
            f"{figure}, bf16 against the peer's fp32", times, peer="peer fp32", ours="detrkit bf16", target=3
        ),
        speedup(
            f"{figure}, bf16 against the peer's bf16",
            times,
            peer="peer bf16",
            ours="detrkit bf16",
            target=2.5,
        ),
        share("the training step", "fp32", times, flops, size),
        share("the training step", "bf16", times, flops, size, target=20),
    ]
    record(options, rows, seconds=times, flops=flops)


def step_images(device: str, short: bool) -> Images:
    """The batch of every step."""
    return draw_images(len(OBJECTS), *(64, 96) if short else (480, 640), device)


def our_step(detector: Detector, images: Images, precision: str) -> Step:
    """A step of detrkit's training."""
    detector.train()
    device = images.pixels.device.type
    objects = draw_objects(OBJECTS, device)
    totals = count_totals(objects, detector.max_objects)
    optimizer = build_optimizer(detector, OPTIM)

    def step() -> None:
        optimizer.zero_grad()
        with in_precision(device, precision):
            loss = detector(images, objects, totals).total
        loss.backward()
        clip_grad_norm_(detector.parameters(), OPTIM.clip_norm)
        optimizer.step()

    return step


def peer_step(model: Any, images: Images, precision: str) -> Step:
    """The same step as a user of transformers would write it."""
    model.train()
    model.config.auxiliary_loss = True
    device = images.pixels.device.type
    labels = as_labels(draw_objects(OBJECTS, device))
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for name, parameter in trained if ("backbone" in name) == inside], "lr": rate}
        for inside, rate in ((True, OPTIM.backbone_lr), (False, OPTIM.lr))
    ]
    optimizer = AdamW(groups, weight_decay=OPTIM.weight_decay, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with in_precision(device, precision):
            loss = model(images.pixels, labels=labels).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), OPTIM.clip_norm)
        optimizer.step()

    return step


if __name__ == "__main__":
    main(parse(__doc__, repeats=15))
