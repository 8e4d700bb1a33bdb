"""A headless Chromium out of PySide6-WebEngine, for machines where no browser is installed but pip works.

It takes the two flags of Chromium's that the tests give: `--remote-debugging-port` and `--user-data-dir`.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Show a blank page that waits for the DevTools protocol until the process is ended."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    flags = [flag for flag in sys.argv[1:] if flag.startswith("--remote-debugging-port")]
    # The sandbox of Chromium refuses to run as root, as containers do; the pages are the tests' own.
    os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = " ".join([*flags, "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
    from PySide6.QtWebEngineWidgets import QWebEngineView
    from PySide6.QtWidgets import QApplication

    application = QApplication(sys.argv[:1])
    view = QWebEngineView()
    view.resize(1400, 1000)
    view.setUrl("about:blank")
    view.show()
    application.exec()


if __name__ == "__main__":
    main()
