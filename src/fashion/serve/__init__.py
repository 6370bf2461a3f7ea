"""Search over HTTP: ONNX Runtime, FAISS and FastAPI; torch is never imported."""
