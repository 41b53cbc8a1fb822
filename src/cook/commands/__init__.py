"""The click code of each command, and what commands share; each imports only click at the top."""
