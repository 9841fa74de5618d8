"""The chapters of a note, each a function from what the note found to a section of its page."""
