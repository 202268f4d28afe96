"""Where objects come from: followed, decoded, merged, and handed over as one consistent set."""
