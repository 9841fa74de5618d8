"""Settings that differ: of a run from its recipe, and of runs from each other."""

from collections.abc import Sequence
from pathlib import Path

from detrkit.errors import DetrkitError
from detrkit.reading import require_file
from detrkit.report.content import Block, Column, Missing, Section, Table, Text, Value
from detrkit.report.record import Record
from detrkit.settings.experiment import Experiment, recipe
from detrkit.settings.model import DetrSettings
from detrkit.settings.section import describe

_OBJECTIVE = ("scoring", "matching", "loss")


def from_recipe(record: Record) -> Section:
    """Each setting in which the run differs from the recipe that it was started with."""
    return Section("settings", "Settings that differ from the recipe", [_from_recipe(record)])


def _from_recipe(record: Record) -> Block:
    if record.experiment is None:
        return Missing(f"The settings are not known: {record.why['experiment.toml']}.")
    name = record.header.get("recipe")
    try:
        base, source = (_recipe(name), f"the recipe {name}") if name else (Experiment(), "")
    except (DetrkitError, OSError) as error:
        base, source = Experiment(), ""
        name = f"{name} ({error})"
    if not source:
        what = (
            f"the recipe cannot be read: {name}"
            if name
            else "the folder does not say which recipe it began with"
        )
        source = f"detrkit's defaults, since {what}"
    base_values = {key: (value, meaning) for key, value, meaning in describe(base)}
    rows: list[list[Value]] = []
    for key, value, meaning in describe(record.experiment):
        before, _ = base_values.get(key, (None, ""))
        if value != before:
            rows.append([key, _shown(before), _shown(value), meaning.replace("`", "")])
    if not rows:
        return Text(f"None: every setting is that of {source}.")
    columns = [Column("Setting"), Column("Recipe"), Column("This run"), Column("Meaning")]
    return Table(f"What this run changed, compared with {source}", columns, rows)


def _recipe(name: str) -> Experiment:
    if name.endswith(".toml"):
        require_file(Path(name))
    return recipe(name)


def between(records: Sequence[Record]) -> Section:
    """Each setting in which the runs are not all the same."""
    known = [record for record in records if record.experiment is not None]
    blocks: list[Block] = [
        Missing(f"The settings of {record.name} are not known: {record.why['experiment.toml']}.")
        for record in records
        if record.experiment is None
    ]
    if len(known) > 1:
        blocks.append(_between(known))
    return Section("settings", "Settings that differ between the runs", blocks)


def _between(records: Sequence[Record]) -> Block:
    settings = [_settings(record.experiment) for record in records if record.experiment]
    names = list(dict.fromkeys(key for one in settings for key in one))
    rows: list[list[Value]] = [
        [key, *(_shown(one.get(key)) for one in settings)]
        for key in names
        if any(one.get(key) != settings[0].get(key) for one in settings)
    ]
    if not rows:
        return Text("None: the runs have the same settings.")
    columns = [Column("Setting"), *(Column(record.name) for record in records)]
    return Table("Settings that are not the same in all runs", columns, rows)


def _settings(experiment: Experiment) -> dict[str, object]:
    """Those that count, by name: only a DETR has its objective among them."""
    settings = {key: value for key, value, _ in describe(experiment)}
    if isinstance(experiment.model, DetrSettings):
        return settings
    return {key: value for key, value in settings.items() if key.split(".")[0] not in _OBJECTIVE}


def _shown(value: object) -> str:
    if value is None or value == "":
        return "not set"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
