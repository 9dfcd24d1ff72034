"""RAW TEXT -> TOKENS: no torch."""
