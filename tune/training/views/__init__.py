"""What people see of a training run: the live line, and afterwards the page of its curves with advice."""
