"""Training recipes: `warmup`, `cepe`, `ceped` and `qa`, each one file that reads top to bottom."""
