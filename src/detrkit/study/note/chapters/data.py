"""Data preparation: what there is, and what the check found."""

from detrkit.report.bars import bars
from detrkit.report.content import (
    Block,
    Column,
    Drawing,
    Drawings,
    Heading,
    Missing,
    Section,
    Table,
    Text,
    Value,
)
from detrkit.study.note.chapters.found import Found

_SHOWN = 20
"""How many classes have a bar: those with the most objects."""

_DEPTHS = {
    "headers": "Annotations, and headers and ends of all image files, were checked.",
    "annotations": "Annotations were checked; image files were not looked at.",
    "none": "Nothing was checked.",
}


def data_chapter(found: Found) -> Section:
    """The splits in figures, the objects of each class, and the findings of the check."""
    result = found.results["data"]
    splits = result["splits"]
    names = ("Images", "Without objects", "Objects", "Crowds", "Most objects in an image")
    keys = ("images", "empty_images", "objects", "crowds", "most_objects")
    rows: list[list[Value]] = [
        [name, *(split[key] for split in splits.values())] for name, key in zip(names, keys, strict=True)
    ]
    for place, name in enumerate(("small", "medium", "large")):
        rows.append([f"Objects that are {name}", *(split["by_size"][place] for split in splits.values())])
    columns = [Column("What"), *(Column(split, "count") for split in splits)]
    training = next(iter(splits))
    blocks: list[Block] = [
        Table("What the splits hold. Small, medium and large are COCO's.", columns, rows),
        Drawings([_classes(training, splits[training]["classes"])]),
        Heading("What the check found"),
        Text(_DEPTHS[result["depth"]]),
    ]
    if result["missing"]:
        blocks.append(Missing(result["missing"]))
    blocks.append(_findings(result["findings"]))
    if result["suggestions"]:
        blocks += [Heading("Settings that the figures speak for"), _suggestions(found)]
    return Section("data", "Data preparation", blocks)


def _classes(split: str, counts: dict[str, int]) -> Drawing:
    most = {name: float(count) for name, count in sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN]}
    left = len(counts) - len(most)
    caption = f"The {_SHOWN} classes with the most objects; {left:,} more are not shown." if left else ""
    return bars("classes", f"Objects of each class in {split}", most, "{:,.0f}", "objects", caption)


def _findings(findings: list[dict]) -> Block:
    if not findings:
        return Text("Nothing was found to be wrong.")
    rows: list[list[Value]] = [
        [one["name"], one["severity"], one["split"], one["count"], one["what"], one["effect"], one["fix"]]
        for one in findings
    ]
    columns = [Column("Found"), Column("Severity"), Column("Where"), Column("Count", "count")]
    columns += [Column("What it is"), Column("What it does"), Column("How to mend it")]
    return Table("The worst first. The note went on with the data as it is.", columns, rows)


def _suggestions(found: Found) -> Block:
    rows: list[list[Value]] = [
        [one["setting"], str(one["value"]), one["reason"]] for one in found.results["data"]["suggestions"]
    ]
    columns = [Column("Setting"), Column("Value"), Column("Reason")]
    return Table("These were not applied: what was trained is in the next chapter.", columns, rows)
