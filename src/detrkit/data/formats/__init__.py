"""Layouts of datasets on disk, each read into a Catalog."""
