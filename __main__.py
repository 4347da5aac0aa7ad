"""`python -m tersor`: the command line."""

from .driver.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
