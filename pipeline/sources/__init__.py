"""What a card names: files, archives, streams and their formats."""
