"""The benchmark suite: fusednn beside its peers and the memory's roof, on the reader's machine.

A run takes cases (`catalogue`) and contenders (`peers`), each library in a process of its own
(`worker`, `library`); compares every answer with float64 (`check`); times contenders in turns
(`measure`) beside passes of the same traffic (``roof``); and writes what it found (`results`,
`table`, `page`, `picture`).
``fusednn bench`` is its command.
"""
