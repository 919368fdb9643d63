"""`ragx train`: recipes, their data and the loop that runs them."""
