"""The rows of a classical detector's heads that belong to classes."""

import re
from collections.abc import Mapping

from torch import Tensor

_HEAD = re.compile(
    r"network\.(roi_heads\.box_predictor\.(cls_score|(?P<boxes>bbox_pred))"
    r"|head\.classification_head\.(cls_logits|module_list\.\d+(\.1)?))\.(weight|bias)"
)


def rows_of_label(name: str) -> int:
    """How many rows in turn of the tensor ``name`` belong to one label; 0 where they belong to none."""
    found = _HEAD.fullmatch(name)
    return 0 if found is None else 4 if found["boxes"] else 1


def with_rows(
    fresh: Tensor, old: Tensor, labels: tuple[int, int], pairs: Mapping[int, int], rows: int
) -> Tensor | None:
    """The tensor ``fresh`` with the rows of labels that ``old`` has too; None where they have other shapes.

    A head has ``rows`` for each label, and again for each kind of anchor. ``labels`` are how many there are
    here and there, and ``pairs`` lead from one here to the same one there.
    """
    here, there = (
        head.unflatten(0, (-1, number, rows)) for head, number in zip((fresh, old), labels, strict=True)
    )
    if here.shape[0] != there.shape[0] or here.shape[2:] != there.shape[2:]:
        return None
    taken = here.clone()
    taken[:, list(pairs)] = there[:, list(pairs.values())]
    return taken.flatten(0, 2)
