"""Weights on disk: our own file, and those of others."""
