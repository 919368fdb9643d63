"""The paper's tasks and their metrics: `ragx eval lm|qa|needle|copy`.

One file per task. All rows of a task's table are measured with the same weights on the same examples.
"""
