"""Less memory for more time: activation checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear
Memory Cost").

Between the forward and the backward pass, a layer keeps its inputs alone, from which it is computed once
more when its gradient is due. Random numbers are drawn alike both times, so that nothing changes.
"""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck

from detrkit.models.decoders.conditional import ConditionalDecoderLayer
from detrkit.models.decoders.plain import PlainDecoderLayer
from detrkit.models.encoder import EncoderLayer

_LAYERS = (EncoderLayer, PlainDecoderLayer, ConditionalDecoderLayer, BasicBlock, Bottleneck)


def recompute_activations(network: nn.Module) -> None:
    """Have every layer of the transformer and every block of the ResNet keep its inputs alone, in place.

    A block with batch normalisation is left as it is: computed twice, it would count its statistics twice.
    """
    for layer in network.modules():
        if isinstance(layer, _LAYERS) and not _counts_statistics(layer):
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def _counts_statistics(layer: nn.Module) -> bool:
    return any(isinstance(module, nn.BatchNorm2d) for module in layer.modules())
