"""Turn a record into the texts of an example; split an example that is too long into several that fit."""
