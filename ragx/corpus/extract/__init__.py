"""Native parsers, run in child processes with limits."""
