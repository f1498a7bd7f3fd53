"""Measurements on real processes: `make bench`. Speed is looked at here and never asserted in a test."""
