"""`python -m oskdft` is the `oskdft` command; torchrun starts it this way."""

from oskdft.commands.cli import main

if __name__ == "__main__":
    main()
