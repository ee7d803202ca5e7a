"""`python -m evalsuite.stub`."""

from evalsuite.stub.server import main

main()
