"""Tests that take longer than the suite may: run by `make`, each with a short form in the suite."""
