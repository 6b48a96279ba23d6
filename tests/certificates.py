# SPDX-License-Identifier: Apache-2.0
"""Certificates for those who speak TLS on loopback: made for a test, and of no use to anybody afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
_SCRIPT = f"""
openssl req -x509 {_KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca
openssl req {_KEY} -keyout key.pem -out one.csr -subj /CN=one
echo subjectAltName=IP:127.0.0.1 > names
openssl x509 -req -in one.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out certificate.pem -extfile names
openssl req -x509 {_KEY} -keyout other.key -out other.pem -days 2 -subj /CN=other
cat key.pem certificate.pem > server.pem
"""


def make(folder: Path) -> Path:
    """Make what a server at 127.0.0.1 and an agent show each other, and an authority that vouches for neither."""
    subprocess.run(["sh", "-ec", _SCRIPT], cwd=folder, check=True, capture_output=True)
    return folder
