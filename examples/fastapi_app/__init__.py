"""A FastAPI application beside the server."""
