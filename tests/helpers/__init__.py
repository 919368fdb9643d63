"""What several test modules share."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository: scripts run as modules from here (`python -m tests.helpers.torture`)."""
