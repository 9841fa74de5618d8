"""Finding settings: many short trainings, of which the hopeless are ended early, at once on many machines."""
