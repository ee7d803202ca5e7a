"""Several processes that train together: started, heard as one, and rendered for rented machines."""
