"""What identifies files and source code in cache keys: their content."""
