"""What every stage shares: recipes, file contracts, user errors, atomic files, command-line manners."""

__version__ = "0.1.0"
