"""Filters: one file each; `order` says which come first."""
