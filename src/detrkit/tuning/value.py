"""What trials are compared by, as one number."""

LEARNED = 0.02
"""The lowest AP that says something. What is below comes of luck: on small images of shapes, detectors that
have learned nothing but where objects mostly are have 0.001 to 0.006."""


def value_of(ap: float, loss: float) -> float:
    """The AP where the detector finds anything, and else how low the loss is, as a number below 0.

    It rises with the AP, and among trials whose AP says nothing yet, it falls as the loss rises: to
    ``-loss / (1 + loss)``, which is between -1 and 0. So any trial that finds something is above all that
    do not.
    """
    return ap if ap >= LEARNED else -loss / (1 + loss)
