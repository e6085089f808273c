"""The `oskdft` command, the doctor, the benchmarks and the batch of notebooks."""
