"""Signatures that ``ssh-keygen -Y verify`` accepts: made and checked here without it.

Source: OpenSSH PROTOCOL.sshsig (the blob, the signed data, the armor) and ssh-keygen(1), ALLOWED SIGNERS.
Signing needs no binary and no agent; keys in a token or an agent can sign MANIFEST with ``ssh-keygen -Y sign``.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import os
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from pytest_pveha.clock import Instant, LiveClock
from pytest_pveha.errors import BadSignature, EvidenceError

NAMESPACE = "pveha-evidence"
"""What a run's seal is signed as, unless another namespace is named: a signature for one thing is none for another."""

_MAGIC = b"SSHSIG"
_VERSION = 1
_HASH = "sha512"
_BEGIN = "-----BEGIN SSH SIGNATURE-----\n"
_END = "-----END SSH SIGNATURE-----\n"
_WIDTH = 70
_MINIMUM_RSA_BITS = 2048
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]*")

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = ed25519.Ed25519PublicKey | rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def sign(data: bytes, key_path: Path, *, namespace: str = NAMESPACE) -> str:
    """The armored signature of ``data`` by the OpenSSH private key in that file.

    Raises:
        EvidenceError: the key is missing, unreadable, open to others, protected by a passphrase or of a kind that
            cannot sign here; says what to do.
    """
    key = load_private_key(key_path)
    signature = _sign(key, _signed_data(namespace, b"", _HASH, data))
    blob = (
        _MAGIC
        + _VERSION.to_bytes(4, "big")
        + _string(_blob(key.public_key()))
        + _string(namespace.encode())
        + _string(b"")
        + _string(_HASH.encode())
        + _string(signature)
    )
    return _armor(blob)


def verify(data: bytes, armored: str, allowed: str, identity: str, *, at: Instant | None = None) -> None:
    """Return if ``identity`` signed exactly this, by a key that ``allowed`` (an allowed_signers text) gives it.

    Args:
        at: the moment for which a key must be valid; now, as ssh-keygen takes it, when not given.

    Raises:
        BadSignature: in every other case; says which part does not hold.
    """
    found = signers(data, armored, allowed, at=at)
    if not any(matches(principals, identity) for principals in found):
        raise BadSignature(f"signed by {', '.join(found)}, not by {identity!r}")


def signers(
    data: bytes, armored: str, allowed: str, *, at: Instant | None = None, namespace: str = NAMESPACE
) -> list[str]:
    """Who signed exactly this, as ``allowed`` names the key's owners; never empty.

    Raises:
        BadSignature: as for verify.
    """
    signature = parse(armored)
    _check(signature, data, namespace)
    found = [line.principals for line in _allowing(signature, allowed, at, namespace)]
    if not found:
        raise BadSignature(
            f"made by {signature.fingerprint}, a key that is not among the allowed signers, not for "
            f"{namespace.removeprefix('pveha-')}, or not valid at this time"
        )
    return found


def intact(data: bytes, armored: str, *, namespace: str = NAMESPACE) -> Signature:
    """The signature, which is one of exactly this by the key that it names, whosever that is.

    Raises:
        BadSignature: it is not.
    """
    signature = parse(armored)
    _check(signature, data, namespace)
    return signature


def allowed_signers(identity: str, key_path: Path, *, namespace: str = NAMESPACE) -> str:
    """The allowed_signers line that lets this key sign in that namespace, and nothing else, as ``identity``.

    Raises:
        EvidenceError: the key cannot be used, or the identity has characters that mean something else in that file.
    """
    if not _IDENTITY.fullmatch(identity):
        raise EvidenceError(
            f"the signer identity {identity!r} cannot stand in an allowed_signers file; "
            "use letters, digits and @ . _ + - only, as in ha-team@example.org"
        )
    return f'{identity} namespaces="{namespace}" {_public_line(load_private_key(key_path))}\n'


def throwaway_key(path: Path, comment: str) -> None:
    """A new ed25519 key lies at ``path`` (0600), its public half at ``path``.pub. No existing key is replaced."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(private)
    path.with_name(path.name + ".pub").write_text(f"{_public_line(key)} {comment}\n", encoding="utf-8")


def public_key(key_path: Path) -> bytes:
    """The key's public half, as ``Signature.key_blob`` has it.

    Raises:
        EvidenceError: as for sign.
    """
    return _blob(load_private_key(key_path).public_key())


def load_private_key(path: Path) -> PrivateKey:
    """The signing key in that file.

    Raises:
        EvidenceError: as for sign.
    """
    try:
        mode = path.stat().st_mode
        raw = path.read_bytes()
    except OSError as error:
        raise EvidenceError(
            f"signing key {path}: cannot be read ({error.strerror}); "
            "name a readable key in evidence.signing_key, or none"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise EvidenceError(
            f"signing key {path}: others can read it (mode {stat.S_IMODE(mode):04o}), so its signature proves nothing; "
            f"chmod 600 {shlex.quote(str(path))}, or make a new key if anyone may have copied it"
        )
    key = _deserialise(path, raw)
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _MINIMUM_RSA_BITS:
        raise EvidenceError(
            f"signing key {path}: RSA with {key.key_size} bits is too short; make one with: ssh-keygen -t ed25519"
        )
    return key


def _deserialise(path: Path, raw: bytes) -> PrivateKey:
    try:
        if b"BEGIN OPENSSH PRIVATE KEY" in raw:
            key: object = serialization.load_ssh_private_key(raw, password=None)
        else:
            key = serialization.load_pem_private_key(raw, password=None)
    except TypeError as error:  # how cryptography says "encrypted"
        raise EvidenceError(
            f"signing key {path}: is protected by a passphrase, and nobody is there to type it; use a key without one "
            "kept at mode 0600, or leave evidence.signing_key out and sign MANIFEST afterwards with: "
            f"ssh-keygen -Y sign -n {NAMESPACE} -f {shlex.quote(str(path))} MANIFEST"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceError(
            f"signing key {path}: is not a private key that can sign here ({error}); "
            "make one with: ssh-keygen -t ed25519 -N '' -f FILE"
        ) from error
    if isinstance(key, PrivateKey):
        return key
    raise EvidenceError(f"signing key {path}: a {type(key).__name__} cannot sign here; use ed25519, ecdsa or rsa")


# --- reading a signature


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature taken apart; nothing in it is trusted yet."""

    key: PublicKey
    key_blob: bytes = field(repr=False)
    namespace: str
    reserved: bytes
    hash_name: str
    algorithm: str
    value: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """The key's name as ssh-keygen -l prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.key_blob).digest()).decode().rstrip("=")


def parse(armored: str) -> Signature:
    """The parts of an armored signature.

    Raises:
        BadSignature: it is not exactly one well-formed signature of a kind known here.
    """
    try:
        blob = _unarmor(armored)
        if blob[:6] != _MAGIC or blob[6:10] != _VERSION.to_bytes(4, "big"):
            raise ValueError("not an SSHSIG of version 1")
        key_blob, namespace, reserved, hash_name, signature = _strings(blob[10:], 5)
        algorithm, value = _strings(signature, 2)
        kind, _ = _string_at(key_blob, 0)
        key = serialization.load_ssh_public_key(kind + b" " + base64.b64encode(key_blob))
        names = [part.decode("ascii") for part in (namespace, hash_name, algorithm)]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadSignature(f"the signature cannot be read: {error}") from error
    if not isinstance(key, PublicKey):
        raise BadSignature(f"a signature by a {type(key).__name__} cannot be checked here; use ssh-keygen -Y verify")
    return Signature(key, key_blob, names[0], reserved, names[1], names[2], value)


def _check(signature: Signature, data: bytes, namespace: str) -> None:
    """Return if the key in the signature made it, of this data, in that namespace."""
    if signature.namespace != namespace:
        raise BadSignature(f"signed as {signature.namespace!r}, not as {namespace!r}: it was made for something else")
    if signature.hash_name not in {"sha256", "sha512"}:
        raise BadSignature(f"unknown hash {signature.hash_name!r}")
    message = _signed_data(signature.namespace, signature.reserved, signature.hash_name, data)
    try:
        _check_value(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature("the signature does not belong to this text: one of them was changed") from error


def _check_value(signature: Signature, message: bytes) -> None:
    key, value = signature.key, signature.value
    if signature.algorithm not in _algorithms(key):
        raise BadSignature(f"{signature.algorithm!r} is not how a key of this kind signs")
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(value, message)
    elif isinstance(key, rsa.RSAPublicKey):
        digest = hashes.SHA512() if signature.algorithm == "rsa-sha2-512" else hashes.SHA256()
        key.verify(value, message, padding.PKCS1v15(), digest)
    else:
        r, s = (_positive(part) for part in _strings(value, 2))
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(_curve_hash(key.curve)))


def _sign(key: PrivateKey, message: bytes) -> bytes:
    algorithm = _algorithms(key.public_key())[0].encode()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        value = key.sign(message)
    elif isinstance(key, rsa.RSAPrivateKey):
        value = key.sign(message, padding.PKCS1v15(), hashes.SHA512())
    else:
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(_curve_hash(key.curve))))
        value = _string(_mpint(r)) + _string(_mpint(s))
    return _string(algorithm) + _string(value)


def _algorithms(key: PublicKey) -> tuple[str, ...]:
    """How such a key may sign, the preferred way first. SHA-1 is not among them."""
    if isinstance(key, rsa.RSAPublicKey):
        return ("rsa-sha2-512", "rsa-sha2-256")
    return (_string_at(_blob(key), 0)[0].decode(),)


def _curve_hash(curve: ec.EllipticCurve) -> hashes.HashAlgorithm:
    """The hash RFC 5656 §6.2.1 gives a curve of that size."""
    if curve.key_size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if curve.key_size <= 384 else hashes.SHA512()


# --- the allowed_signers file


@dataclass(frozen=True, slots=True)
class _Allowed:
    principals: str
    options: tuple[tuple[str, str], ...]
    key_blob: bytes


def _allowing(signature: Signature, allowed: str, at: Instant | None, namespace: str) -> list[_Allowed]:
    """The lines of ``allowed`` that name this key, in that namespace, at that moment."""
    seconds = (at or LiveClock().now()).utc / 1_000_000_000
    return [
        line
        for line in _allowed_lines(allowed)
        if line.key_blob == signature.key_blob and _options_hold(dict(line.options), seconds, namespace)
    ]


def _allowed_lines(allowed: str) -> Iterator[_Allowed]:
    for number, line in enumerate(allowed.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = _words(line)
            where = next(n for n, word in enumerate(words) if n and re.fullmatch(r"(ssh|ecdsa|sk)-[\w@.-]+", word))
            options = tuple(_option(part) for word in words[1:where] for part in _comma_parts(word))
            yield _Allowed(words[0].strip('"'), options, base64.b64decode(words[where + 1], validate=True))
        except (ValueError, IndexError, StopIteration) as error:
            raise BadSignature(
                f"allowed_signers:{number}: cannot be read; expected: identity [options] key-type key"
            ) from error


def _words(line: str) -> list[str]:
    """Split at spaces outside double quotes; the quotes stay."""
    words = re.findall(r'(?:[^\s"]|"[^"]*")+', line)
    if line.count('"') % 2:
        raise ValueError("a quote is not closed")
    return words


def _comma_parts(word: str) -> list[str]:
    return re.findall(r'(?:[^,"]|"[^"]*")+', word)


def _option(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.lower(), value.strip('"')


def _options_hold(options: dict[str, str], seconds: float, namespace: str) -> bool:
    """Whether the line lets its key sign in that namespace at that moment. An option not known here lets nothing."""
    if set(options) - {"namespaces", "valid-after", "valid-before"}:
        return False
    if "namespaces" in options and not matches(options["namespaces"], namespace):
        return False
    if "valid-after" in options and seconds < _moment(options["valid-after"]):
        return False
    return "valid-before" not in options or seconds <= _moment(options["valid-before"])


def _moment(text: str) -> float:
    """Seconds since 1970 of YYYYMMDD[HHMM[SS]][Z]; local time without the Z."""
    digits = text.removesuffix("Z")
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits))
    if form is None:
        raise BadSignature(f"allowed_signers: {text!r} is not YYYYMMDD[HHMM[SS]][Z]")
    try:
        naive = datetime.strptime(digits, form)  # noqa: DTZ007  (the zone is set below)
    except ValueError as error:
        raise BadSignature(f"allowed_signers: {text!r} is no date") from error
    return (naive.replace(tzinfo=UTC) if text.endswith("Z") else naive.astimezone()).timestamp()


def matches(patterns: str, name: str) -> bool:
    """Whether a pattern list of ssh_config(5) matches: commas, ``*``, ``?``, and ``!`` which wins."""
    found = False
    for pattern in patterns.split(","):
        # fnmatch knows [sets], ssh does not
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


# --- SSH's wire encoding (RFC 4251 §5)


def _signed_data(namespace: str, reserved: bytes, hash_name: str, data: bytes) -> bytes:
    digest = hashlib.new(hash_name, data).digest()
    return _MAGIC + b"".join(_string(part) for part in (namespace.encode(), reserved, hash_name.encode(), digest))


def _public_line(key: PrivateKey) -> str:
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _blob(key: PublicKey) -> bytes:
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _mpint(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _positive(mpint: bytes) -> int:
    """The number, if this is its one right spelling."""
    value = int.from_bytes(mpint, "big", signed=True)
    if value <= 0 or _mpint(value) != mpint:
        raise ValueError("not a positive number in its shortest form")
    return value


def _string_at(data: bytes, offset: int) -> tuple[bytes, int]:
    start = offset + 4
    end = start + int.from_bytes(data[offset:start], "big")
    if start > len(data) or end > len(data):
        raise ValueError("cut off")
    return data[start:end], end


def _strings(data: bytes, count: int) -> list[bytes]:
    """Exactly ``count`` strings, and nothing after them."""
    parts, offset = [], 0
    for _ in range(count):
        part, offset = _string_at(data, offset)
        parts.append(part)
    if offset != len(data):
        raise ValueError("something follows it")
    return parts


def _armor(blob: bytes) -> str:
    text = base64.b64encode(blob).decode()
    return _BEGIN + "".join(text[n : n + _WIDTH] + "\n" for n in range(0, len(text), _WIDTH)) + _END


def _unarmor(armored: str) -> bytes:
    """The blob; only the one spelling that ssh-keygen writes is taken, so that no byte can change unseen."""
    if not (armored.startswith(_BEGIN) and armored.endswith(_END)):
        raise ValueError("its first or last line is not an SSH signature's")
    try:
        blob = base64.b64decode(armored[len(_BEGIN) : -len(_END)].replace("\n", ""), validate=True)
    except binascii.Error as error:
        raise ValueError("it is not base64") from error
    if _armor(blob) != armored:
        raise ValueError("it is not spelled as ssh-keygen writes it: the file was changed")
    return blob
