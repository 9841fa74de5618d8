"""Results as json has them."""

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Arrays as lists, NumPy's numbers as Python's, and what is no number (NaN, infinity) as None.

    Dictionaries, lists and tuples are followed; everything else stays as it is.
    """
    match value:
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case np.ndarray() if np.issubdtype(value.dtype, np.floating):
            listed = value.astype(object)
            listed[~np.isfinite(value)] = None
            return listed.tolist()
        case np.ndarray() | np.integer() | np.bool_():
            return value.tolist()
        case float() | np.floating():
            return float(value) if np.isfinite(value) else None
        case _:
            return value
