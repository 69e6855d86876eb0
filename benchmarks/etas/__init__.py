"""Parts of the benchmarks of the time left: methods, a client that looks, data, the report."""
