"""The benchmarks of docs/benchmarks.md: `python -m benchmarks [NAME …]`, or `make bench` for all."""
