"""Detectors behind one contract, whatever is inside."""
