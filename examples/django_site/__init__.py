"""A Django site beside the server."""
