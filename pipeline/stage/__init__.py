"""What every stage does the same way."""
