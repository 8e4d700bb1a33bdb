"""A store under fire: writers that are killed, files that are damaged, disks that are full. `make test-faults`."""

GRID = """\
title: sixty cells
models: [nano-llama]
tasks: [nano_arc, nano_lambada, nano_winogrande]
variants:
  - {name: skip, start: all}
  - {name: parallel, start: all, loops: [1, 2]}
  - {name: shuffle, start: [0, 1], seed: 0}
protocol: {limit: 2, batch_size: 8}
"""
