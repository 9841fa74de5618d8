"""Splits that only repeat the images of others, as Pascal VOC's trainval does those of train and val."""

from collections.abc import Mapping

from detrkit.catalog import Catalog


def drop_repeated_splits(catalogs: Mapping[str, Catalog]) -> dict[str, Catalog]:
    """The splits without those whose every image file others have, of which the largest goes first."""
    files = {split: _files(catalog) for split, catalog in catalogs.items()}
    kept = dict(catalogs)
    for split in sorted(catalogs, key=lambda split: -len(files[split])):
        others = set[str]().union(*(files[other] for other in kept if other != split))
        if files[split] <= others:
            del kept[split]
    return kept


def _files(catalog: Catalog) -> set[str]:
    folder = catalog.folder.resolve()
    return {f"{folder}/{name}" for name in catalog.file_names.tolist()}
