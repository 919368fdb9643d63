"""The recipes, each one file that reads top to bottom."""
