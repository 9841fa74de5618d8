"""The nouns that carry tensors.

Shape letters, here and in every signature: ``B`` images of a batch, ``H W`` its padded size, ``h w`` a
feature map, ``S`` tokens, ``D`` width, ``Q`` queries, ``L`` decoder layers, ``C`` classes, ``K`` logits
per query, ``N`` objects of one image, ``M`` matched pairs.

Two coordinate spaces. *Image space*: ``xyxy`` in pixels of the original image. *Model space*: ``cxcywh``
as fractions of the image without its padding. Only ``data.collate`` (in) and ``objective.postprocess``
(out) cross between them. Masks are positive everywhere: True is a real pixel, True may be attended to.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor


class Images(NamedTuple):
    """A batch of images, padded with zeros at the bottom and the right.

    Pixels are bytes as they are loaded, and normalised numbers as a network takes them. ``valid`` is None
    where no image is padded, so that nothing has to be masked.
    """

    pixels: Float[Tensor, "B 3 H W"] | UInt8[Tensor, "B 3 H W"]
    valid: Bool[Tensor, "B H W"] | None = None


class Objects(NamedTuple):
    """The objects of one image, in model space."""

    boxes: Float[Tensor, "N 4"]
    labels: Int[Tensor, " N"]


class Sample(NamedTuple):
    """One item of a dataset, which torchvision's v2 transforms take as it is.

    ``image`` is a ``tv_tensors.Image`` and ``boxes`` a ``tv_tensors.BoundingBoxes`` in image space
    (``xyxy``), so that a transform moves both together. ``original_size`` is (height, width).
    """

    image: Shaped[Tensor, "3 H W"]
    boxes: Float[Tensor, "N 4"]
    labels: Int[Tensor, " N"]
    image_id: int
    original_size: tuple[int, int]


class Unread(NamedTuple):
    """An image that cannot be read, and the sentence that says why."""

    image_id: int
    reason: str


class Batch(NamedTuple):
    """What one forward pass takes, and where it came from. ``original_sizes`` are (height, width).

    ``unread`` are images that should be here and cannot be read.
    """

    images: Images
    objects: list[Objects]
    image_ids: list[int]
    original_sizes: list[tuple[int, int]]
    unread: Sequence[Unread] = ()


class Matches(NamedTuple):
    """Pairs of a query and the object that it answers for.

    ``target`` counts through the objects of the whole batch, image after image, so that one index
    gathers all of them at once. A leading axis ``L`` holds the decoder layers: each layer has its own
    pairs, and the same number of them, since a layer matches ``min(N, Q)`` objects of every image.
    """

    image: Int[Tensor, "*L M"]
    query: Int[Tensor, "*L M"]
    target: Int[Tensor, "*L M"]


class Denoised(NamedTuple):
    """Answers whose objects are known before they are made: those of denoising queries, of which there are R.

    ``target`` counts through the objects of the whole batch; -1 is to be answered by 'no object'. For every
    object there are so many ``positives`` whose target it is, and ``negatives`` that are near it.
    """

    logits: Float[Tensor, "L R K"]
    boxes: Float[Tensor, "L R 4"]
    target: Int[Tensor, " R"]
    positives: int
    negatives: int


class Groups(NamedTuple):
    """The answers of G further sets of queries, each of which is matched with the objects on its own."""

    logits: Float[Tensor, "L G B Q K"]
    boxes: Float[Tensor, "L G B Q 4"]


class DetrOutput(NamedTuple):
    """The answers of all decoder layers on one axis; the last layer's is the network's answer.

    Boxes are in model space. What comes after them is there in training only, and only in some decoders.
    """

    logits: Float[Tensor, "L B Q K"]
    boxes: Float[Tensor, "L B Q 4"]
    groups: Groups | None = None
    denoised: Denoised | None = None


class Totals(NamedTuple):
    """What the losses of one optimiser step are divided by.

    Counted over all processes and all micro-batches of the step, so that neither their number nor
    their size changes the gradient. ``matched`` is the sum of ``min(objects, queries)`` over images.
    """

    images: float
    boxes: float
    matched: float


class LossReport(NamedTuple):
    """The weighted sum to minimise, and its unweighted terms for people to read.

    A term has one value per decoder layer, the last being the network's answer; a detector without
    decoder layers has one. Summed over the micro-batches and processes of a step, both are the step's.
    ``unmatched`` are the positions in the batch of images whose matching costs are not finite, nor is the
    total then.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, " L"]]
    unmatched: Sequence[int] = ()


class Detections(NamedTuple):
    """What was found in one image, best first, in image space."""

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]


class ImageSize(NamedTuple):
    """What an image is resized to before a detector looks at it, in pixels.

    The shorter side becomes ``short_side`` unless that makes the longer one exceed ``max_size``.
    """

    short_side: int
    max_size: int
