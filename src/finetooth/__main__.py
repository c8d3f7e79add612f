"""`python -m finetooth` is the command line `finetooth`."""

from finetooth.cli.app import main

main()
