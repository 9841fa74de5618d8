"""What is wrong with a dataset, said before hours are spent on it: a file for each family of faults."""
