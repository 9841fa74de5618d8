"""What trials are compared by, as one number."""

LEARNED = 1e-3
"""The lowest AP that says something; what is below comes of luck.

It is this low since even a small AP judges better than the loss: on shapes, after an eighth of a training, it
put those first that ended well (0.005 to 0.0075 against 0.004), and the loss those that fell fast and ended
at an AP of 0.006.
"""


def value_of(ap: float, loss: float) -> float:
    """The AP where the detector finds anything, and else how low the loss is, as a number below 0.

    It rises with the AP, and among trials whose AP says nothing yet, it falls as the loss rises: to
    ``-loss / (1 + loss)``, which is between -1 and 0. So any trial that finds something is above all that
    do not.
    """
    return ap if ap >= LEARNED else -loss / (1 + loss)
