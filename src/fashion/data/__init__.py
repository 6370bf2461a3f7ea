"""Pictures: where they come from, how they are read, kept, sampled and augmented."""
