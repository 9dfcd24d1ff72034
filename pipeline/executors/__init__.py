"""A map over parts: on this machine, on Ray, as a job array."""
