"""THE CONTRACT: what an artifact is, how one is named, published, found, checked and traced."""
