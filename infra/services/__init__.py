"""Every service of an installation, on this machine and for this user: `python -m infra.services start|stop|status`."""
