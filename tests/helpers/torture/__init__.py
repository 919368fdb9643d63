"""Kill, starve and damage an index: `python -m tests.helpers.torture`."""
