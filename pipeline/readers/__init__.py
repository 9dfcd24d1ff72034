"""Files become documents and rows."""
