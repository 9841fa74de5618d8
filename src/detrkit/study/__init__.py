"""Whole investigations, as resumable steps over all of the floors below."""
