"""Search: the FAISS index, the catalogue folder, and the engine over both."""
