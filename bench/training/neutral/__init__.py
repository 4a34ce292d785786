"""Pictures that show no concept of any world, and the patterns on them."""
