"""The figures: what this project is measured against, in one run, on the same text."""
