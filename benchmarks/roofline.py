"""What the machine can do: the rate of a large matrix product and of a ResNet's 3x3 convolution."""

from argparse import Namespace
from collections.abc import Callable

import torch
from harness import Row, Times, parse, ratios, record, spread, take_turns

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main(options: Namespace) -> None:
    size, side = (256, 14) if options.short else (2048, 60)
    ways = {
        f"{kind} {precision}": run
        for precision in FORMATS
        for kind, run in (
            ("matmul", matmul(size, options.device, precision)),
            ("convolution", convolution(side, options.device, precision)),
        )
    }
    flops = {"matmul": 2 * size**3, "convolution": 2 * 2 * 128 * 128 * 9 * side * (side + 20)}
    times = take_turns(ways, options)
    what = {
        "matmul": f"matrix product of {size}",
        "convolution": f"3x3 convolution of 128 channels, 2 x {side} x {side + 20}, channels last",
    }
    rows = [
        Row(
            f"{what[name.split()[0]]}, {name.split()[1]}",
            spread([flops[name.split()[0]] / seconds / 1e12 for seconds in times[name]]),
            unit="TFLOP/s",
        )
        for name in ways
    ]
    record(options, rows, seconds=times, flops=flops)


def matmul(size: int, device: str, precision: str) -> Callable[[], object]:
    """A product of two square matrices."""
    left, right = (torch.randn(size, size).to(device, FORMATS[precision]) for _ in range(2))
    return lambda: left @ right


def convolution(side: int, device: str, precision: str) -> Callable[[], object]:
    """That of a ResNet-50's layer2, whose map of a 480 x 640 image is 60 x 80 large; forward alone."""
    pixels = torch.randn(2, 128, side, side + 20).to(
        device, FORMATS[precision], memory_format=torch.channels_last
    )
    layer = torch.nn.Conv2d(128, 128, 3, padding=1, bias=False)
    layer = layer.to(device, FORMATS[precision], memory_format=torch.channels_last).requires_grad_(False)
    return lambda: layer(pixels)


def share(what: str, precision: str, times: Times, flops: int, size: int, target: float | None = None) -> Row:
    """detrkit's rate as part of that of a matrix product, taken in the same turn."""
    product, ours = times[f"matmul {precision}"], times[f"detrkit {precision}"]
    most = 2 * size**3
    rate, peak = flops / spread(ours).median / 1e12, most / spread(product).median / 1e12
    return Row(
        f"share of the {precision} roofline in {what}",
        spread([100 * ratio * flops / most for ratio in ratios(product, ours)]),
        target,
        "%",
        ours=f"{rate:.2f} TFLOP/s ({flops / 1e9:.0f} GFLOP counted)",
        peer=f"{peak:.2f} TFLOP/s (matrix product of {size})",
    )


if __name__ == "__main__":
    main(parse(__doc__, repeats=30))
