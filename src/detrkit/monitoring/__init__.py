"""Listeners: what becomes of the events of a run."""
