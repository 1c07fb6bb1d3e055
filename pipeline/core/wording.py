"""Numbers as people read them, in messages, logs and pages."""


def fixed(value: float, decimals: int = 2, signed: bool = False) -> str:
    """A number with so many decimals; what rounds to zero has no sign.

    Args:
        signed: whether positive numbers show a plus.
    """
    text = f"{value:z.{decimals}f}"
    return f"+{text}" if signed and float(text) > 0 else text
