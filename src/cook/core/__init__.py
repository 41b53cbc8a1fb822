"""What every package stands on: errors, results, records, the recipe, templates, files on disk, cache, progress."""
