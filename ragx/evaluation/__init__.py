"""`ragx eval`: one's own passages, tasks after the paper's, and their metrics.

One file per task. All rows of a task's table are measured with the same weights on the same examples.
"""
