"""Arrow files, splits and rejects."""
