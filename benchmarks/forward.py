"""Seconds and peak memory of a forward pass at published widths, paired against other implementations.

    python benchmarks/forward.py --against alphagenome-pt=PYTHON --against alphagenome-pytorch=PYTHON

PYTHON is an interpreter that has the implementation (`alphagenome-pytorch` 0.3.1 needs Python 3.12). What is
equal and what is timed: implementations.py. Prints a Markdown table a length and choice of heads.
"""

from pairing import compare, parser

if __name__ == "__main__":
    compare("forward", parser(__doc__).parse_args())
