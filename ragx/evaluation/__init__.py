"""The paper's tasks and their metrics: `ragx eval lm|qa|needle|copy`.

One file a task; every row of a task's table is measured with the same weights, on the same examples.
"""
