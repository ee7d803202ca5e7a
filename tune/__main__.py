"""`python -m tune`: for when another package owns the script name."""

from tune.cli import main

main()
