"""What is not of the core: other APIs, and other systems to talk to."""
