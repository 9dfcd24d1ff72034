"""The steps that clean a corpus, and their order."""
