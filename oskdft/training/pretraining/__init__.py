"""Small teachers, pre-trained without labels."""
