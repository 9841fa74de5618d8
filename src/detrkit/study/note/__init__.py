"""The whole note on one dataset: from checking the data to conclusions, in steps that can be resumed."""
