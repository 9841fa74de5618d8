"""A whole training step: forward, loss, backward, clipping and AdamW, of two images of 480 x 640.

Both networks train with dropout, the peer's loss has its auxiliary terms, and both have torch's fused AdamW.
"""

from argparse import Namespace
from collections.abc import Callable

import torch
from contestants import Pair, as_labels, build_pair, draw_image, draw_objects
from harness import Row, count_flops, in_precision, parse, ratios, record, speedup, spread, take_turns
from roofline import matmul
from torch.nn.utils import clip_grad_norm_

from detrkit.data.collate import pad
from detrkit.inference.precision import autocast
from detrkit.objective.criterion import count_totals
from detrkit.structures import Images
from detrkit.training.optimise import build_optimizer

Step = Callable[[], object]
OBJECTS = [7, 12]


def main(options: Namespace) -> None:
    steps = build_steps(options.device, options.short)
    size = 256 if options.short else 2048
    rooflines = {
        f"matmul {precision}": matmul(size, options.device, precision) for precision in ("fp32", "bf16")
    }
    flops = count_flops(steps["detrkit fp32"])
    times = take_turns(steps | rooflines, options.repeats, options.device)

    figure = "training step, 2 x 480 x 640"
    rows = [
        speedup(f"{figure}, fp32", times, peer="peer fp32", ours="detrkit fp32", target=1.4),
        speedup(f"{figure}, bf16 against peer fp32", times, peer="peer fp32", ours="detrkit bf16", target=3),
        speedup(
            f"{figure}, bf16 against peer bf16", times, peer="peer bf16", ours="detrkit bf16", target=2.5
        ),
    ]
    for precision, target in (("fp32", None), ("bf16", 20)):
        slower = ratios(times[f"matmul {precision}"], times[f"detrkit {precision}"])
        share = spread([100 * flops / (2 * size**3) * ratio for ratio in slower])
        peak = 2 * size**3 / spread(times[f"matmul {precision}"]).median / 1e12
        rate = flops / spread(times[f"detrkit {precision}"]).median / 1e12
        rows.append(
            Row(
                f"share of the {precision} roofline in the training step",
                share,
                target,
                "%",
                ours=f"{rate:.2f} TFLOP/s of {flops / 1e9:.0f} GFLOP counted",
                peer=f"{peak:.2f} TFLOP/s (matrix product of {size})",
            )
        )
    record(options, rows, seconds=times, flops=flops)


def build_steps(device: str, short: bool = False) -> dict[str, Step]:
    """The step of both sides in both precisions, by name: ``detrkit bf16``."""
    pair = build_pair(device, short)
    height, width = (64, 96) if short else (480, 640)
    images = pad([draw_image(height, width, seed) for seed in range(len(OBJECTS))])
    images = Images(*(part if part is None else part.to(device) for part in images))
    return {
        f"{side} {precision}": build(pair, images, precision)
        for precision in ("fp32", "bf16")
        for side, build in (("peer", peer_step), ("detrkit", our_step))
    }


def our_step(pair: Pair, images: Images, precision: str) -> Step:
    detector = pair.ours.train()
    device = images.pixels.device.type
    objects = draw_objects(OBJECTS, device)
    totals = count_totals(objects, detector.max_objects)
    optimizer = build_optimizer(detector, pair.experiment.optim)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, precision):
            report = detector(images, objects, totals)
        report.total.backward()
        clip_grad_norm_(detector.parameters(), 0.1)
        optimizer.step()

    return step


def peer_step(pair: Pair, images: Images, precision: str) -> Step:
    model = pair.peer.train()
    model.config.auxiliary_loss = True
    device = images.pixels.device.type
    labels = as_labels(draw_objects(OBJECTS, device))
    backbone = {id(parameter) for parameter in model.model.backbone.parameters()}
    groups = [
        {
            "params": [p for p in model.parameters() if p.requires_grad and (id(p) in backbone) == inside],
            "lr": rate,
        }
        for inside, rate in ((True, 1e-5), (False, 1e-4))
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with in_precision(device, precision):
            loss = model(images.pixels, labels=labels).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    return step


if __name__ == "__main__":
    main(parse(__doc__, repeats=9))
