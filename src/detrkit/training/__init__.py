"""Finding the weights: ``fit`` is the loop, on one page; the other files are its parts."""
