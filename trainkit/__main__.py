"""python -m trainkit, and torchrun -m trainkit: the command."""

from trainkit.cli import main

if __name__ == "__main__":
    main()
