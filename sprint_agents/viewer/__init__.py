"""The run viewer: runs as one self-contained page of HTML."""

from .page import render_frame, render_page

__all__ = ["render_frame", "render_page"]
