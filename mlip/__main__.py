"""`python -m mlip` is the command `mlip`."""

from mlip.cli.main import main

if __name__ == "__main__":
    main()
