"""What a corpus is like, gathered once and shown as a page or in a terminal."""
