"""What a network really gets of a dataset, for people to look at: as a contact sheet and in figures."""
