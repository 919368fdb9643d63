"""`python -m ragx`."""

from ragx.cli import main

main()
