"""The real-time core: application, hub, backplane, framing, authentication, stores."""

__version__ = "0.1.0"
