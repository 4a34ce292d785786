"""What tests share: a tiny world, small methods, results made by hand, and servers on this machine."""
