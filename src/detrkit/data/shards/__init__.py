"""Datasets whose images are in tar files: which image comes where, and how they are written and read."""
