"""Certificates per second and core: the whole way from a CSR's text to a checked chain. Run: python bench/ca.py"""

import time
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from mutua.ca import issue, self_signed
from mutua.ca.caller import Caller, Credential
from mutua.spiffe import SpiffeId
from mutua.system import clock, keys
from mutua.system.keys import KeyAlgorithm

IDENTITY = SpiffeId("cluster.local", "shop", "web")
SECONDS = 2.0


def main() -> None:
    """Print one line for each pair of algorithms."""
    pairs = (
        (KeyAlgorithm.P256, KeyAlgorithm.P256),
        (KeyAlgorithm.P256, KeyAlgorithm.RSA_2048),
        (KeyAlgorithm.RSA_2048, KeyAlgorithm.P256),
        (KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_2048),
    )
    for authority_algorithm, workload_algorithm in pairs:
        rate = issued_per_second(authority_algorithm, workload_algorithm)
        pair = f"authority {authority_algorithm.value:8}  workload {workload_algorithm.value:8}"
        print(f"{pair}  {rate:6.0f} certificates/s/core")


def issued_per_second(
    authority_algorithm: KeyAlgorithm, workload_algorithm: KeyAlgorithm, seconds: float = SECONDS
) -> float:
    """Certificates for each second of CPU, over about so many seconds."""
    now = clock.now()
    authority = self_signed.authority(
        keys.generate(authority_algorithm), "cluster.local", now, x509.random_serial_number()
    )
    key = keys.generate(workload_algorithm)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(IDENTITY))])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=True)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    caller = Caller(IDENTITY, Credential.TOKEN)
    count, begin = 0, time.process_time()
    while (used := time.process_time() - begin) < seconds:
        issue.certificate(csr, caller, authority, now, x509.random_serial_number(), timedelta(hours=24))
        count += 1
    return count / used


if __name__ == "__main__":
    main()
