"""The loop, its steps, checkpoints, log and losses."""
