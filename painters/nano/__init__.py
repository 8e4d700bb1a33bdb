"""The bundled models and their tasks, and everything that made them: world, corpus, tokenizer, network, training.

`python -m painters.nano --help` lists the steps that rebuild all of it from a seed. Nothing here is imported by
`import painters`; the folders `llama` and `tasks` are plain data.
"""
