"""One page about a run, or about several: what happened, how good it got, and where it fails."""
