"""The checks, one file per subject; `analysis.registry` lists them."""
