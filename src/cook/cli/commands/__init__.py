"""The click code of each command; each imports only click and its neighbours at the top."""
