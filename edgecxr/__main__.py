"""`edgecxr` and `python -m edgecxr`."""

from edgecxr.cli import main

if __name__ == "__main__":
    main()
