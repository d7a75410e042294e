"""``python -m mmeffvit.testing.check_golden FILE...``; see `mmeffvit.testing.command_line`.

To be run, not imported: imported, it would take the name of the function of the package.
"""

import sys

from mmeffvit.testing.command_line import main

if __name__ == "__main__":
    sys.exit(main())
