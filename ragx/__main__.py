"""`python -m ragx`."""

from ragx.cli.main import main

main()
