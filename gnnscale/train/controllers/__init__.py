"""Stop controllers: when a layer that is trained alone has been trained enough."""
