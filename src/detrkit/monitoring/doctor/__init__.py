"""Why AP stays low: facts of a run, and the ailments that they show."""
