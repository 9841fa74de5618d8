"""Weights on disk: our own file and, to come, those of others."""
