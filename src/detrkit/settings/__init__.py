"""The settings of a run, one frozen model per consumer."""
