"""The bundled models and their tasks, and the code that made them.

That is: world, corpus, tokenizer, network, training. `python -m painters.nano --help` lists the steps that rebuild all
of it from a seed. `import painters` imports nothing of this; the folders `llama`, `bert`, `tasks` and `glue` are plain
data.
"""
