"""What cannot be exported, and why."""


class ExportError(RuntimeError):
    """A model, or a setting of it, has no form for other runtimes. The message says which."""
