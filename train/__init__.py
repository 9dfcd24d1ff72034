"""WEIGHTS MEET DATA: accelerate lives only here."""
