"""Local processes and Dask's workers: they run picklable functions, and know nothing of what those do."""
