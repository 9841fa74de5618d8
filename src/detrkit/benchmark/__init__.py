"""Detectors side by side: how good they are on the same images, and what they cost on the same machine."""
