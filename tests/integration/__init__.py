"""The product on a real Ray cluster, on this machine."""
