"""Chapter 3: put the picture into the text: optimise the embedding of a prompt, or of no prompt."""
