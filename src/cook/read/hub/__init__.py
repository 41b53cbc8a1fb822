"""Files from the Hugging Face Hub, through its own client, whose cache and environment variables hold.

`client` calls the client, again where that may help, and puts its errors in words; `snapshot` resolves a revision to
its commit and file list, and keeps these; `source` is a collection, whose shards it fetches side by side and checks.
"""
