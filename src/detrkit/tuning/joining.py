"""A study in its storage: begun by the first worker, joined by all others, of this machine or another."""

import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study

from detrkit.errors import DetrkitError
from detrkit.tuning.plan import REDUCTION, Plan

HEARTBEAT, GRACE = 15, 60
"""A worker says so often that it lives, and after so long a silence it is taken for dead; in seconds."""

_PATIENCE = 20
"""Seconds until a storage whose tables are in the making is given up."""

_MADE_TWICE = ("already exists", "duplicate key", "Duplicate entry", "UNIQUE constraint")
"""What databases say where two workers make the same table or row at once."""

_ABOUT = "detrkit"
"""Beside a study: what was asked, and its plan."""

_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""The drivers meant by a URL that names none."""


def sqlite_url(folder: Path) -> str:
    """The storage of a study that is said to lie nowhere else."""
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def open_storage(url: str, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> RDBStorage:
    """The database at the URL, with the tables that studies need.

    Raises:
        DetrkitError: where there is none, or its driver is missing.
    """
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        return _with_tables(url, heartbeat, grace)
    except ImportError:
        raise DetrkitError(
            f"--storage {shown(url)} needs its driver: pip install 'psycopg[binary]' for postgresql://, "
            "pymysql for mysql://."
        ) from None
    except (ArgumentError, ValueError) as error:
        raise DetrkitError(
            f"--storage {shown(url)} is not a database's URL ({first_line(error)}): write it as "
            "postgresql://USER:PASSWORD@HOST/DATABASE."
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        raise DetrkitError(
            f"--storage {shown(url)} cannot be used: {first_line(error.__cause__ or error)}."
        ) from None


def join_or_begin(
    storage: BaseStorage, name: str, asked: Mapping[str, Any], make_plan: Callable[[], Plan]
) -> tuple[Study, Plan]:
    """The study of that name with its plan, which is made where there is none.

    Raises:
        DetrkitError: naming what differs, where the study is another.
    """
    asked = json.loads(json.dumps(asked))
    sampler = TPESampler(multivariate=False)
    if name not in optuna.get_all_study_names(storage):
        plan = make_plan()
        try:
            study = optuna.create_study(
                storage=storage, study_name=name, direction="maximize", sampler=sampler
            )
        except DuplicatedStudyError:
            pass  # another worker was quicker, and its plan counts
        else:
            study.set_user_attr(_ABOUT, {"asked": asked, "plan": plan._asdict()})
    study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    about = _wait_for_plan(study)
    _require_same(about["asked"], asked, name)
    plan = Plan(**about["plan"])
    study.pruner = SuccessiveHalvingPruner(min_resource=plan.part, reduction_factor=REDUCTION)
    return study, plan


def shown(url: str) -> str:
    """The URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "URL"


def first_line(error: BaseException) -> str:
    """What an error says, without the rest of what a database tells."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _with_tables(url: str, heartbeat: int, grace: int) -> RDBStorage:
    """The storage; tables that another worker makes at this very moment are waited for."""
    from sqlalchemy.exc import SQLAlchemyError

    kind, colon, rest = url.partition("://")
    # SQLite has one writer at a time; the others wait for it
    more: dict[str, Any] = {"connect_args": {"timeout": 60}} if kind == "sqlite" else {"pool_pre_ping": True}
    end = time.monotonic() + _PATIENCE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        while True:
            try:
                return RDBStorage(
                    f"{_DRIVERS.get(kind, kind)}{colon}{rest}",
                    engine_kwargs=more,
                    heartbeat_interval=heartbeat,
                    grace_period=grace,
                )
            except SQLAlchemyError as error:
                if time.monotonic() > end or not any(word in str(error) for word in _MADE_TWICE):
                    raise
                time.sleep(0.2)


def _wait_for_plan(study: Study, seconds: float = 30) -> Mapping[str, Any]:
    """What stands beside the study, which its first worker writes right after it."""
    end = time.monotonic() + seconds
    while _ABOUT not in study.user_attrs:
        if time.monotonic() > end:
            raise DetrkitError(
                f"the study {study.study_name} in this storage was not begun by detrkit: choose another "
                "--out."
            )
        time.sleep(0.2)
    return study.user_attrs[_ABOUT]


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    for key in [*before, *now]:
        if before.get(key) != now.get(key):
            raise DetrkitError(
                f"the study {name} was begun with {key} = {before.get(key)}, not {now.get(key)}: go on with "
                "what it has, or choose another --out."
            )
