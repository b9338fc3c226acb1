"""The audit fails on findings, and says where it could find nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "audit"
FINE = {"name": "fine", "version": "1.0", "vulns": []}
BROKEN = {"name": "broken", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
SKIPPED = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("fits", "found", "code", "said"),
    [
        (True, {"dependencies": [FINE, SKIPPED]}, 0, "1 packages audited, 0 with"),
        (False, {"dependencies": [FINE, SKIPPED]}, 1, "fine 1.0 needs another"),
        (True, {"dependencies": [FINE, BROKEN]}, 1, "broken 1.0: CVE-1, mended in 1.1"),
        (True, {"dependencies": [SKIPPED]}, 0, "NOT AUDITED"),
        (True, None, 0, "NOT AUDITED"),
    ],
)
def test_the_audit(tmp_path: Path, fits: bool, found: Any, code: int, said: str) -> None:
    (tmp_path / "pip.py").write_text("" if fits else "print('fine 1.0 needs another'); raise SystemExit(1)")
    answer = f"print({json.dumps(found)!r})" if found else "raise SystemExit('no network')"
    (tmp_path / "pip_audit.py").write_text(answer)
    ran = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == code
    assert said in ran.stdout
