"""`python -m service` and the command `eclusa`."""

from service.cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
