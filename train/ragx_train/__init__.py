"""Training recipes: `warmup`, `cepe` and `qa`, each one file that reads top to bottom."""
