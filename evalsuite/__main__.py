"""`python -m evalsuite`: for when another package owns the script name."""

from evalsuite.cli import main

main()
