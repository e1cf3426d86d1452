"""One file per channel that carries a message to a person, after the commit that caused it."""
