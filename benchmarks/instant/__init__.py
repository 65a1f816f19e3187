"""Models that answer at once, so that all time is the library's."""
