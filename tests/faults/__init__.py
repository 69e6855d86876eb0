"""Faults of every kind on real processes over real sockets, and a count of what got through."""
