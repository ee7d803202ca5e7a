"""`python -m serve`: for when another package owns the script name."""

from serve.cli import main

main()
