"""Chapter 1: add noise to a picture, and let the model take it away again."""
