"""Measurements: `python -m benchmarks NAME ...`; README.md beside this file lists the names."""
