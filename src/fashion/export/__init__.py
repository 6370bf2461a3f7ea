"""What a trained model becomes: a bundle that runs without torch."""
