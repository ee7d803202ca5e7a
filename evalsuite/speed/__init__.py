"""How fast an endpoint is: a load, its metrics, and when they mean nothing."""
