"""What a visit to the museum costs, in euros."""


def ticket(age: int) -> int:
    """Return the price of a ticket: children under 12 enter free of charge."""
    return 0 if age < 12 else 12


def parking(hours: int) -> int:
    """Return what parking costs: 2 euros an hour."""
    return 2 * hours
