"""`python -m pointsense`."""

from pointsense.cli import main

if __name__ == "__main__":
    main()
