"""Files, hashing, settings and the process: knows nothing of text."""
