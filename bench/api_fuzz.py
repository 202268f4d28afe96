"""The local API under fuzzed requests for longer than the test suite has time for: python bench/api_fuzz.py [EXAMPLES].

Other requests than in the tests, and other ones each time; exits with 1 and the request that made the server fail.
"""

import os
import sys
from pathlib import Path

import pytest

TEST = Path(__file__).parents[1] / "tests/integration/localcluster/apiserver/test_fuzz.py"

if __name__ == "__main__":
    os.environ["API_FUZZ_EXAMPLES"] = sys.argv[1] if len(sys.argv) > 1 else "3000"
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--timeout=0", str(TEST)]))
