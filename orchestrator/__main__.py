"""`python -m orchestrator` is `lungtune`."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
