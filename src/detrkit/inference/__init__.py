"""Using a trained detector: load, evaluate, predict."""
