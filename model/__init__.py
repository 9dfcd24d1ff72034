"""THE NETWORK and its use: torch, no accelerate."""
