"""``python -m detrkit``, for launchers such as torchrun."""

from detrkit.cli.main import main

main()
