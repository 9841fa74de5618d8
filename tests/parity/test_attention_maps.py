"""transformers gives the attention weights of its layers: those found here from a pass are the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from detrkit.data.collate import normalise
from detrkit.detectors.detr import DetrDetector
from detrkit.inference.attention import cross_attention, encoder_attention, watch
from detrkit.inference.load import load

transformers = pytest.importorskip("transformers")

RESNET = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
SMALL = {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "num_queries": 7,
    "id2label": {0: "cat", 1: "dog"},
    "use_timm_backbone": False,
    "attn_implementation": "eager",
}
WIDTHS = {"Detr": {"d_model": 64}, "ConditionalDetr": {"d_model": 64}, "DabDetr": {"hidden_size": 64}}
RANDOM = torch.Generator().manual_seed(0)


def build(name: str) -> Any:
    resnet = transformers.ResNetConfig(out_features=["stage4"], **RESNET)
    config = getattr(transformers, f"{name}Config")(backbone_config=resnet, **SMALL, **WIDTHS[name])
    transformers.set_seed(0)
    model = getattr(transformers, f"{name}ForObjectDetection")(config).eval()
    for tensor in model.state_dict().values():
        if tensor.ndim == 2:  # weights so large that attention is far from even
            tensor.normal_(0, 2 * tensor.shape[1] ** -0.5, generator=RANDOM)
    return model


@pytest.mark.parametrize("name", ["Detr", "ConditionalDetr", "DabDetr"])
def test_maps_of_every_layer_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = build(name)
    theirs.save_pretrained(tmp_path)
    ours = load(
        tmp_path, overrides={"data.short_sides": [96], "data.eval_short_side": 96, "data.max_size": 160}
    )
    assert isinstance(ours, DetrDetector)
    image = torch.randint(0, 256, (3, 96, 160), dtype=torch.uint8, generator=RANDOM)
    with torch.no_grad():
        expected = theirs(normalise(image[None]), output_attentions=True)
    watched = watch(ours, image)
    for layer in (0, 1):
        [maps] = cross_attention(watched, [6, 0, 3], layer)
        cells = expected.cross_attentions[layer][0, :, [6, 0, 3]].transpose(0, 1)
        torch.testing.assert_close(maps, cells.unflatten(-1, (3, 5)), rtol=1e-3, atol=1e-5)
        [maps] = encoder_attention(watched, [(0.99, 0.01), (0.5, 0.5)], layer)
        cells = expected.encoder_attentions[layer][0, :, [4, 7]].transpose(0, 1)
        torch.testing.assert_close(maps, cells.unflatten(-1, (3, 5)), rtol=1e-3, atol=1e-5)
        assert maps.amax() > 3 / 15
