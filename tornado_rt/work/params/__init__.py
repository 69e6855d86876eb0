"""The parameters of kinds: read from JSON into their classes, and described by schemas."""
