"""Documents, questions and how they become training examples."""
