"""Fakes with faults and seeds, and the real thing on a leash."""
