"""Numbers as people read them, with their words, in messages, logs and pages."""


def fixed(value: float, decimals: int = 2, signed: bool = False) -> str:
    """A number with so many decimals; what rounds to zero has no sign.

    Args:
        signed: whether positive numbers show a plus.
    """
    text = f"{value:z.{decimals}f}"
    return f"+{text}" if signed and float(text) > 0 else text


def n_of(number: int, word: str, plural: str = "") -> str:
    """3 architectures, 1 architecture, 1,200 classes.

    Args:
        plural: of words that do not form it with an s.
    """
    return f"{number:,} {word if number == 1 else plural or f'{word}s'}"
