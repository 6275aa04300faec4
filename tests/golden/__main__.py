"""`python tests/golden`: write the golden files."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from golden import write

write()
