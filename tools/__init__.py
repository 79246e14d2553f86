"""What builds and checks the course from outside it; nothing here is imported by `course`."""
