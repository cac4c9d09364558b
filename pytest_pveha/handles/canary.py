"""Numbered writes in a guest that is made for tests: a small program there, and what it wrote read back.

The program is POSIX sh with coreutils or busybox. About five times a second it appends a line to ``ledger`` in a folder
of its own, has it synced (fsync(2), by ``sync FILE``), and notes in the next line when that had returned::

    NUMBER INCARNATION BEGUN WALL ACKNOWLEDGED HASH

``BEGUN`` is the guest's uptime when the write began, ``ACKNOWLEDGED`` when the write *before* had been synced, ``-``
where that is not known; ``HASH`` is the SHA-256 of the hash before, a space, and the line up to there. So a line is
known to be durable from the line behind it, and every line vouches for all before it. The incarnation is the kernel's
boot id and when process 1 began (proc(5)): a container has its host's boot id.

Whatever becomes of us, the program ends when its lease is over, and removes its folder. What a guest that was reset
meanwhile keeps is removed by the next start there, and by ``pveha heal``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from pytest_pveha.clock import Deadline, Instant
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.agent import Inside, Ran

MARK: Final = "# pveha-ledger 1"
"""The program's first line."""

TAG: Final = "pveha-ledger-"
"""Our folder in a guest is called so, with the run's id behind it."""

PAUSE: Final = 0.15
"""Seconds between two writes, beside what they take themselves."""

LEASE: Final = 900
"""Seconds that the writer goes on when nobody reads."""

PART: Final = 200_000
"""Bytes that are read back at a time."""

VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
"""File systems that no write outlives a boot in."""

PROGRAM: Final = (
    MARK
    + r"""
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
verb=$1 folder=$2 tag=$3
dir=$folder/$tag
here() {
  said=$(cat /proc/1/stat); said=${said##*) }; set -- $said
  inc=$(cat /proc/sys/kernel/random/boot_id):${20}
  read -r up rest < /proc/uptime
}
size() { if [ -e "$dir/ledger" ]; then wc -c < "$dir/ledger"; else echo 0; fi; }
lease() { here; echo $((${up%.*} + $1)) > "$dir/lease.new" && mv "$dir/lease.new" "$dir/lease"; }
writing() {
  [ -e "$dir/writer" ] && read -r pid of < "$dir/writer" && [ "$of" = "$inc" ] && kill -0 "$pid" 2>/dev/null
}
clean() { LC_ALL=C tr -c '\012\040-\176' '?'; }
told() { here; echo "$inc $up $(($(size)))" "$@"; }
here
case $verb in
start)
  for old in "$folder"/pveha-ledger-*; do
    [ -d "$old" ] && [ "$old" != "$dir" ] || continue
    read -r pid of < "$old/writer"; [ "$of" = "$inc" ] && kill -0 "$pid" 2>/dev/null || rm -rf "$old"
  done 2>/dev/null
  mkdir -p "$dir" && chmod 700 "$dir" && lease "$4" || exit 4
  if ! writing; then
    cat > "$dir/write" <<'END'
# pveha-ledger writer
dir=$1 inc=$2 pause=$3
log=$dir/ledger ack=- n=0 prev=0
line='^[0-9]+ [0-9a-f-]+:[0-9]+ [0-9.]+ [0-9]+ [0-9.-]+ [0-9a-f]{64}$'
last=$(LC_ALL=C tr -c '\012\040-\176' '?' < "$log" 2>/dev/null | grep -E "$line" | tail -n 1)
[ -z "$last" ] || { n=${last%% *} prev=${last##* }; }
sleep "$pause" 2>/dev/null || pause=1
begin='\n'
while read -r until < "$dir/lease"; do
  read -r up rest < /proc/uptime
  [ "${up%.*}" -lt "$until" ] || { rm -rf "$dir"; exit 0; }
  line="$((n + 1)) $inc $up $(date +%s) $ack"
  hash=$(printf '%s %s' "$prev" "$line" | sha256sum); hash=${hash%% *}
  ack=-
  if printf "$begin%s %s\n" "$line" "$hash" >> "$log"; then
    n=$((n + 1)) prev=$hash begin=
    if sync "$log"; then read -r up rest < /proc/uptime; ack=$up; fi
  else begin='\n'; fi
  sleep "$pause"
done
END
    if command -v setsid >/dev/null; then setsid sh "$dir/write" "$dir" "$inc" "$5" </dev/null >/dev/null 2>&1 &
    else nohup sh "$dir/write" "$dir" "$inc" "$5" </dev/null >/dev/null 2>&1 & fi
    echo "$! $inc" > "$dir/writer"
  fi
  told "$(stat -f -c %T "$dir" 2>/dev/null || echo unknown)"
  ;;
tail)
  told "$(writing && echo writing || echo idle)"
  [ -d "$dir" ] || exit 0
  # what is written where writes hang hangs too, and must not keep us from reading: seldom, and beside us
  read -r until < "$dir/lease" && [ $((until - ${up%.*})) -gt $(($6 / 2)) ] ||
    lease "$6" >/dev/null 2>&1 </dev/null &
  [ ! -e "$dir/ledger" ] || tail -c "+$(($4 + 1))" "$dir/ledger" | head -c "$5" | clean
  ;;
digest)
  told "$(head -c "$4" "$dir/ledger" 2>/dev/null | clean | sha256sum | cut -c 1-64)"
  ;;
stop)
  for dir in "$folder"/${tag%all}*; do
    [ -d "$dir" ] || continue
    case $tag in *all) ;; *) [ "$dir" = "$folder/$tag" ] || continue;; esac
    writing && kill "$pid"
    rm -rf "$dir"
    [ ! -e "$dir" ] || exit 5
  done
  sync "$folder"
  told gone
  ;;
*) exit 2 ;;
esac
"""
)

_TOLD = re.compile(
    r"(?P<inc>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:[0-9]{1,19}) (?P<up>[0-9]{1,10}\.[0-9]{1,2}) "
    r"(?P<size>[0-9]{1,15}) (?P<word>[0-9a-zA-Z_/-]{1,64})\n"
)
_LINE = re.compile(
    r"(?P<number>[1-9][0-9]{0,17}) (?P<inc>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:[0-9]{1,19}) "
    r"(?P<begun>[0-9]{1,10}\.[0-9]{2}) (?P<wall>[0-9]{1,12}) (?P<ack>-|[0-9]{1,10}\.[0-9]{2}) (?P<hash>[0-9a-f]{64})"
)

CENTI: Final = 10_000_000
"""Nanoseconds in a step of /proc/uptime, in which every time of the guest is told."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the program said of itself, the guest's uptime in ns, between those moments of ours."""

    incarnation: str
    uptime: int
    size: int
    word: str
    asked_at: Instant
    answered_at: Instant


@dataclass(frozen=True, slots=True)
class Write:
    """One line of the ledger; times are the guest's uptime in ns, each up to 10 ms too small."""

    number: int
    incarnation: str
    begun: int
    wall: int
    before: int | None
    """When the write before it had been synced."""
    hash: str
    linked: bool
    """Whether its hash follows from the line before it."""
    end: int
    """Bytes of the ledger up to its end."""


class Canary:
    """The program in one guest, as long as it is where ``inside`` asks. ``run`` is the run's id, eight hex digits."""

    def __init__(self, inside: Inside, folder: str, run: str) -> None:
        self._inside = inside
        self._folder = folder
        self._tag = f"{TAG}{run}"

    def start(self, deadline: Deadline) -> Told:
        """Something writes there, in the guest's present incarnation; ``word`` is the file system's kind.

        Raises:
            ProtocolError: that is one that forgets, or the program cannot run there.
        """
        told, _ = self._run(deadline, "start", str(LEASE), str(PAUSE))
        if told.word in VOLATILE:
            self.stop(deadline)
            raise ProtocolError(
                f"{self._inside.sid}: {self._folder} is on {told.word}, which forgets at every boot; name a folder on "
                f"its disk: guests.canary_folder"
            )
        return told

    def tail(self, deadline: Deadline, offset: int, count: int = PART) -> tuple[Told, str]:
        """What was written behind that many bytes, so much of it at most; ``word``: whether anybody is ``writing``.

        The writer's lease is renewed. Bytes that are no part of a line are told as ``?``, each.
        """
        return self._run(deadline, "tail", str(offset), str(count), str(LEASE))

    def digest(self, deadline: Deadline, size: int) -> Told:
        """The SHA-256, as ``word``, of so many first bytes of the ledger, or of all, as ``tail`` tells them."""
        return self._run(deadline, "digest", str(size))[0]

    def stop(self, deadline: Deadline) -> None:
        """Nothing writes there, and nothing of ours is in the guest."""
        self._run(deadline, "stop")

    def _run(self, deadline: Deadline, verb: str, *words: str) -> tuple[Told, str]:
        ran = self._inside.run(deadline, "/bin/sh", "-s", "--", verb, self._folder, self._tag, *words, input=PROGRAM)
        told, rest = said(self._inside.sid, ran)
        if ran.status != 0:
            raise ProtocolError(
                f"{self._inside.sid}: the ledger's program ended with {ran.status} ({verb}): {ran.err.strip()[:200]}"
            )
        return told, rest


def sweep(inside: Inside, folder: str, deadline: Deadline) -> None:
    """No run's ledger is in the guest any more."""
    Canary(inside, folder, "all").stop(deadline)


def said(sid: str, ran: Ran) -> tuple[Told, str]:
    """What the program printed: the line about itself, and what came behind it."""
    found = _TOLD.match(ran.out)
    if found is None:
        shown = (ran.out or ran.err).strip()[:200]
        raise ProtocolError(f"{sid}: the ledger's program ended with {ran.status} and said {shown!r}")
    told = Told(
        found["inc"], nanoseconds(found["up"]), int(found["size"]), found["word"], ran.asked_at, ran.answered_at
    )
    return told, ran.out[found.end() :]


def parse(text: str, offset: int = 0, before: str = "0") -> list[Write]:
    """The whole lines of a part of the ledger that begins after that many bytes, behind the line with that hash.

    What is no line of ours (torn by a crash, or by somebody) is left out, and so is a last one without its end: the
    next line's ``linked`` tells whether one is missing.
    """
    found = []
    for row in text.split("\n")[:-1]:
        offset += len(row.encode()) + 1
        match = _LINE.fullmatch(row)
        if match is None:
            continue
        body = row.rpartition(" ")[0]
        own = hashlib.sha256(f"{before} {body}".encode()).hexdigest()
        ack = None if match["ack"] == "-" else nanoseconds(match["ack"])
        found.append(
            Write(
                int(match["number"]),
                match["inc"],
                nanoseconds(match["begun"]),
                int(match["wall"]),
                ack,
                match["hash"],
                own == match["hash"],
                offset,
            )
        )
        before = match["hash"]
    return found


def nanoseconds(text: str) -> int:
    """Seconds with two decimals, as /proc/uptime has them, exactly."""
    whole, _, part = text.partition(".")
    return (int(whole) * 100 + int(f"{part:0<2}")) * CENTI
