"""Chapter 2: run the sampler backwards, from a picture to its noise, and edit on the way back."""
