"""Where shards come from (a folder, the sample, the Hub, ModelScope), and their lines."""
