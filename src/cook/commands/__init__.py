"""The click code of commands that have modules of their own; each imports only click at the top."""
