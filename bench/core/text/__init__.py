"""Text that names of users stand in: for terminals that obey control characters, and for shells."""
