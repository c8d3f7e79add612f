"""`python -m finetooth` is the command line `finetooth`."""

from finetooth.cli import main

main()
