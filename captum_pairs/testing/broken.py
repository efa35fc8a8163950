"""What a contract that is not kept raises."""

__all__ = ["BrokenContractError", "require"]


class BrokenContractError(AssertionError):
    """Something that every adapter or method promises does not hold."""


def require(holds: bool, promise: str, found: object = "") -> None:
    """
    Raise unless a promise holds.

    Args:
        holds: whether it does.
        promise: what should be.
        found: what was found instead.
    """
    if not holds:
        raise BrokenContractError(promise + (f"; found {found}" if found else ""))
