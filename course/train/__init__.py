"""Trains everything that the course ships: `python -m course.train --help`."""
