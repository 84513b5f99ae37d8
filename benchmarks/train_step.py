"""Seconds and peak memory of a training step (forward and backward), paired against other implementations.

    python benchmarks/train_step.py --against alphagenome-pt=PYTHON --against alphagenome-pytorch=PYTHON

See forward.py; what a step is: implementations.py.
"""

from pairing import compare, parser

if __name__ == "__main__":
    compare("train_step", parser(__doc__).parse_args())
