"""How fast the containers are, beside what they could be: `make bench`, or `python -m tools.bench --help`."""
