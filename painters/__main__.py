"""`python -m painters` is the command `painters`."""

from painters.cli import main

if __name__ == "__main__":
    main()
