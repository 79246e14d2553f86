"""Chapter 4: attention says which word goes where, so edit a picture by editing its attention."""
