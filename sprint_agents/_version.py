"""The version; the wheel's metadata and ``sprint_agents.__version__`` both read it here."""

__version__ = "0.1.0"
