"""Prediction over HTTP and WebSockets: `python -m emojax.serve RUN` (docs/serve.md)."""
