"""The documents of the bundled tasks, for lm-eval's own command line: a function for each task that reads them."""

from painters.tasks import bundled, config

globals().update({name: config(path)["custom_dataset"] for name, path in bundled().items()})
