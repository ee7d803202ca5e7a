"""`python -m deploy`: for when another package owns the script name."""

from deploy.cli import main

main()
