"""Real text: corpora and their held-out parts, byte-pair tokens, and character n-grams as a baseline."""
