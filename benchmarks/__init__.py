"""One file for each claim of speed. `make bench` runs all; `python -m benchmarks NAME …` some of them."""
