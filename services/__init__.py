"""The domain: queue, progress, notifications, system settings. Nothing here knows a socket."""
