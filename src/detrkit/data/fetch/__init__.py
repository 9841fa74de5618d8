"""Datasets from the network: what is missing or damaged is downloaded, verified and put in place."""
