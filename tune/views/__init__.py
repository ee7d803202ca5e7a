"""What people see of a dataset: one HTML page beside the stages' folders."""
