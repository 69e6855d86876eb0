"""The real-time core: application, hub, backplane, framing, authentication, stores."""
