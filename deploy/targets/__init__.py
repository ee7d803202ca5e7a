"""Deploy targets: a renderer and its files each."""
