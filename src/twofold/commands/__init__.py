"""The commands of the terminal, one file for each topic; `twofold.cli` puts them together."""
