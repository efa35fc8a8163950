"""What a person sees of an explanation: pictures, and a page to explore it."""
