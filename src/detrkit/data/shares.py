"""How many images a share is: a count, a fraction of all, or the rest."""

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64

from detrkit.errors import DetrkitError

Share = int | float | None
"""A number of images, a fraction of them between 0 and 1, or what the others leave."""


def read_share(text: str, where: str) -> int | float:
    """A count such as 500, or a fraction such as 0.1; else a DetrkitError that names ``where``."""
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return int(text)
    if re.fullmatch(r"0?\.[0-9]+", text) and float(text) > 0:
        return float(text)
    raise DetrkitError(
        f"{where} is '{text}', but a number of images such as 500 or a fraction such as 0.1 is expected."
    )


def read_shares(text: str, where: str) -> dict[str, Share]:
    """Names with their shares, from a text such as ``val=500,train``, of which train is the rest.

    Raises:
        DetrkitError: A name is empty, no name of a folder, or there twice, or a share is none.
    """
    shares: dict[str, Share] = {}
    for part in text.split(","):
        name, given, share = (word.strip() for word in part.partition("="))
        if not re.fullmatch(r"\w[\w.-]*", name) or name in shares:
            raise DetrkitError(
                f"{where} '{text}' has the name '{name}', but different names of letters, digits, '-' "
                "and '_' are expected, such as train=0.8,val=0.2."
            )
        shares[name] = read_share(share, f"{where}: {name}") if given else None
    return shares


def counts_of(shares: Mapping[str, Share], total: int, where: str) -> dict[str, int]:
    """How many of ``total`` images each share is.

    Fractions are rounded so that they add up (largest remainders first).

    Raises:
        DetrkitError: The shares are not all images together, or one of them is no image.
    """
    rest = [name for name, share in shares.items() if share is None]
    given = [share * total if isinstance(share, float) else share or 0 for share in shares.values()]
    together = sum(given)
    if len(rest) > 1 or together > total + 1e-6 * total or (not rest and together < total - 1e-6 * total):
        raise DetrkitError(
            f"{where} shares out {together:,.10g} of {total:,} images, and {len(rest)} names have no number: "
            "share out all, or leave one name without a number, which gets the rest."
        )
    whole = _rounded(np.array(given, np.float64), round(together) if rest else total)
    counts = dict(zip(shares, whole.tolist(), strict=True))
    for name in rest:
        counts[name] = total - sum(counts.values())
    for name, count in counts.items():
        if not count:
            raise DetrkitError(
                f"{where}: {name} would have none of the {total:,} images: give it a larger share."
            )
    return counts


def count_of(share: int | float, total: int) -> int:
    """How many of ``total`` images a share is: one at least, all at most."""
    return min(total, max(1, round(share * total))) if isinstance(share, float) else min(total, share)


def _rounded(wanted: Float64[np.ndarray, " shares"], total: int) -> Int64[np.ndarray, " shares"]:
    """Whole numbers that add up to ``total``, as what is wanted does, each less than one from that."""
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    largest = np.argsort(counts - wanted, kind="stable")[: max(0, total - int(counts.sum()))]
    counts[largest] += 1
    return counts
