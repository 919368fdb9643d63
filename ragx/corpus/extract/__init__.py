"""Files that need a parser -> text, in child processes with limits.

A format is the module of its name, with a function `parse`. `parser.py` asks for a file, `worker.py` is the child
process, `parsed.py` the result. `office/` and `web/` hold what several formats share.
"""
