"""Starting from other weights: what is carried, what is adapted, what stays fresh, and that all is told."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.errors import DetrkitError
from detrkit.settings.experiment import recipe
from detrkit.weights.architecture import differences, require_same_architecture
from detrkit.weights.store import Stored
from detrkit.weights.transfer import Transfer, summarise, transfer

SMALL = {
    "model.backbone.name": "resnet18",
    "model.transformer.width": 32,
    "model.transformer.feedforward": 48,
    "model.encoder.layers": 1,
    "model.decoder.layers": 2,
    "model.decoder.queries": 9,
}
HEAD = "network.decoder.heads.classes.weight"
BIAS = "network.decoder.heads.classes.bias"
QUERIES = "network.decoder.queries"
ANCHORS = "network.decoder.anchors"
ANCHOR = {"model.decoder.kind": "anchor", "model.decoder.denoising.groups": 1, "scoring.kind": "focal"}


def build(names: list[str], seed: int, overrides: dict[str, object] | None = None) -> Stored:
    torch.manual_seed(seed)
    experiment = recipe("detr_r50", SMALL | (overrides or {}))
    categories = tuple(
        Category(number, name, used=not name.startswith("unused")) for number, name in enumerate(names)
    )
    return Stored(experiment, categories, dict(build_detector(experiment, categories).state_dict()))


def move(source: Stored, target: Stored) -> Transfer:
    found = transfer(source, target.tensors, target.experiment, target.categories)
    assert found.tensors.keys() == target.tensors.keys()
    rows = [row for row in found.rows if row.what != "dropped"]
    assert [row.name for row in rows] == list(target.tensors), "every new tensor is told once"
    dropped = [row.name for row in found.rows if row.what == "dropped"]
    taken = {row.source for row in rows} - {None}
    assert Counter(dropped) + Counter(taken) == Counter(list(source.tensors)), "and every old one"
    return found


def what(found: Transfer, name: str) -> str:
    return next(row.what for row in found.rows if row.name == name)


def test_the_same_classes_copy_everything() -> None:
    source = build(["a", "b"], 0)
    found = move(source, build(["a", "b"], 1))
    assert {row.what for row in found.rows} == {"carried"}
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in source.tensors.items())


def test_rows_of_shared_names_are_copied_whatever_their_label() -> None:
    source, target = build(["unused 0", "dog", "cat", "car"], 0), build(["bird", "car", "dog"], 1)
    found = move(source, target)
    for name in (HEAD, BIAS):
        head, old, fresh = found.tensors[name], source.tensors[name], target.tensors[name]
        assert torch.equal(head[0], fresh[0])
        assert torch.equal(head[1], old[3])
        assert torch.equal(head[2], old[1])
        assert torch.equal(head[3], old[4]), "'no object' is the last row of both"
        assert what(found, name) == "adapted"
    assert Counter(row.what for row in found.rows) == {"carried": len(found.rows) - 2, "adapted": 2}


def test_an_unused_label_lends_its_row_to_nobody() -> None:
    source, target = build(["unused 0", "dog"], 0), build(["unused 0", "dog"], 1)
    target = target._replace(categories=(Category(0, "unused 0"), Category(1, "dog")))
    found = move(source, target)
    assert torch.equal(found.tensors[HEAD][0], target.tensors[HEAD][0])


def test_new_classes_keep_their_fresh_rows() -> None:
    source, target = build(["a", "b"], 0), build(["x", "y", "z"], 1)
    found = move(source, target)
    assert torch.equal(found.tensors[HEAD][:3], target.tensors[HEAD][:3])
    assert torch.equal(found.tensors[HEAD][3], source.tensors[HEAD][2])


@pytest.mark.parametrize("queries", [4, 15])
def test_the_first_queries_are_taken(queries: int) -> None:
    source, target = build(["a"], 0), build(["a"], 1, {"model.decoder.queries": queries})
    found = move(source, target)
    count = min(9, queries)
    assert torch.equal(found.tensors[QUERIES][:count], source.tensors[QUERIES][:count])
    assert torch.equal(found.tensors[QUERIES][count:], target.tensors[QUERIES][count:])
    assert what(found, QUERIES) == "adapted"


@pytest.mark.parametrize("queries", [4, 15])
def test_the_first_anchors_are_taken(queries: int) -> None:
    source, target = build(["a"], 0, ANCHOR), build(["a"], 1, ANCHOR | {"model.decoder.queries": queries})
    found = move(source, target)
    count = min(9, queries)
    assert torch.equal(found.tensors[ANCHORS][:count], source.tensors[ANCHORS][:count])
    assert torch.equal(found.tensors[ANCHORS][count:], target.tensors[ANCHORS][count:])
    assert Counter(row.what for row in found.rows) == {"carried": len(found.rows) - 1, "adapted": 1}


def test_anchors_are_no_queries() -> None:
    found = move(build(["a"], 0), build(["a"], 1, ANCHOR))
    assert (what(found, ANCHORS), what(found, QUERIES)) == ("fresh", "dropped")


@pytest.mark.parametrize("names", [["a", "b"], ["a"]], ids=["another shape", "the same shape"])
def test_the_class_head_stays_fresh_where_a_logit_means_something_else(names: list[str]) -> None:
    """With 'no object', a softmax over one class has as many logits as two sigmoids."""
    source, target = build(names, 0), build(["a", "b"], 1, {"scoring.kind": "focal"})
    found = move(source, target)
    for name in (HEAD, BIAS):
        assert torch.equal(found.tensors[name], target.tensors[name])
    told = {(row.what, row.reason) for row in found.rows if row.name in (HEAD, BIAS)}
    assert told == {
        ("fresh", "scoring.kind softmax there, focal here"),
        ("dropped", "another stands here"),
    }
    left = {"fresh": 2, "dropped": 2}
    assert Counter(row.what for row in found.rows) == {"carried": len(found.rows) - 4} | left


def test_labels_of_denoising_follow_their_names() -> None:
    labels = "network.decoder.denoising.labels.weight"
    source, target = build(["dog", "cat"], 0, ANCHOR), build(["cat", "bird"], 1, ANCHOR)
    found = move(source, target)
    assert torch.equal(found.tensors[labels][0], source.tensors[labels][1])
    assert torch.equal(found.tensors[labels][1], target.tensors[labels][1])


def test_what_does_not_fit_stays_fresh_and_what_is_left_is_dropped() -> None:
    source = build(["a"], 0, {"model.decoder.layers": 3, "model.transformer.width": 64})
    target = build(["a"], 1, {"model.encoder.position": "learned"})
    found = move(source, target)
    hidden = "network.encoder.layers.0.feedforward.0.weight"
    assert what(found, hidden) == "fresh"
    assert torch.equal(found.tensors[hidden], target.tensors[hidden])
    assert what(found, "network.encoder.position.rows") == "fresh"
    assert what(found, "network.decoder.layers.2.feedforward.0.weight") == "dropped"
    carried = {row.name.split(".")[1] for row in found.rows if row.what == "carried"}
    assert carried == {"backbone"}, "in another width, no channel means what it did"


def test_labels_that_no_object_has_are_carried_where_all_labels_are_the_same() -> None:
    source, target = build(["unused 0", "dog", "unused 0"], 0), build(["unused 0", "dog", "unused 0"], 1)
    found = move(source, target._replace(categories=source.categories))
    assert torch.equal(found.tensors[HEAD], source.tensors[HEAD])


def test_another_backbone_is_refused() -> None:
    source = build(["a"], 0)
    other = recipe("detr_r50", SMALL | {"model.backbone.name": "resnet50"})
    with pytest.raises(
        DetrkitError, match=r"resnet18, whose blocks are built otherwise than those of resnet50"
    ):
        transfer(source, {}, other, source.categories)
    other = recipe("detr_r50", SMALL | {"model.backbone.weights": "none"})
    with pytest.raises(DetrkitError, match=r"--set model\.backbone\.norm=frozen --set .*weights=imagenet"):
        transfer(source, {}, other, source.categories)


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.backbone.name": "resnet34"},
        {"model.backbone.weights": "none"},
        {"model.backbone.levels": ["layer3"]},
        {"model.transformer.width": 64},
        {"model.encoder.layers": 2},
        {"model.decoder.layers": 1},
        ANCHOR,
    ],
)
def test_starting_from_another_architecture_names_the_command(overrides: dict[str, object]) -> None:
    """Of weights that `train --init` is given."""
    source, target = recipe("detr_r50", SMALL), recipe("detr_r50", SMALL | overrides)
    file = Path("r50.safetensors")
    with pytest.raises(DetrkitError, match=r"`detrkit weights transfer r50\.safetensors --to RECIPE --out"):
        require_same_architecture(source, target, file)


def test_other_queries_and_other_training_are_the_same_architecture() -> None:
    other = {"model.decoder.queries": 3, "model.transformer.dropout": 0.0, "optim.lr": 1.0}
    source, target = recipe("detr_r50", SMALL), recipe("detr_r50", SMALL | other)
    require_same_architecture(source, target, Path("r50.safetensors"))
    assert differences(source, target) == [
        ("model.transformer.dropout", 0.1, 0.0),
        ("model.decoder.queries", 9, 3),
    ]


def test_the_summary_accounts_for_every_element() -> None:
    source, target = build(["dog", "cat"], 0), build(["cat", "bird"], 1, {"model.decoder.layers": 1})
    found = move(source, target)
    lines = summarise(found.rows)
    assert sum(count for _, _, count, _, _ in lines) == len(found.rows)
    new = sum(elements for _, what, _, elements, _ in lines if what != "dropped")
    assert new == sum(tensor.numel() for tensor in target.tensors.values())
    unused = sum(elements for _, what, _, elements, _ in lines if what == "dropped")
    assert unused == sum(
        tensor.numel() for name, tensor in source.tensors.items() if name not in target.tensors
    )
    assert ("decoder.heads.classes", "adapted") in {(part, what) for part, what, *_ in lines}
