"""The work of the developers in `tests/test_eight_jobs.py`, and what they reach a server with."""
