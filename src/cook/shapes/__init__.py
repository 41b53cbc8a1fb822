"""A record -> the texts of an example; what is too long -> several that fit."""
