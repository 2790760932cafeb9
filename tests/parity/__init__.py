"""lungtune's numbers against the original programs: `python -m tests.parity` makes the table of docs/parity.md."""
