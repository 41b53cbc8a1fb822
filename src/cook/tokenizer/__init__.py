"""A name -> special ids, and an engine that gives the ids of texts, and back."""
