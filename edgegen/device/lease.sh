# Holds a device for one client: $1 edgegen's folder there, $2 who holds it, $3 a holder that is known to be gone or "". Prints
# "held", or "busy WHO" and ends with 75.
# The lock is a link whose text is the holder: it appears in one step. A holder that is no more loses it, and what its commands
# left running is ended. The lock goes when this ends, which the guard sees to, also when nothing is heard from the client.
d=$1 w=$2 t=${3:-}
start() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
group() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f3; }
lives() { # pid start
  s=$(start "$1")
  if [ -n "$s" ]; then [ "$s" = "$2" ]; else [ -z "$2" ] && kill -0 "$1" 2>/dev/null; fi
}
take() { ln -s "$$ $(start $$) $w" "$d/lock" 2>/dev/null; }
busy() {
  echo "busy $1"
  exit 75
}
mkdir -p "$d/run" || exit 1
if ! take; then
  old=$(readlink "$d/lock")
  set -- $old
  if lives "${1:-0}" "${2:-}"; then
    [ -n "$t" ] && [ "$t" = "${3:-}" ] || busy "${3:-somebody}"
    kill -KILL "$1" # its guard ends with it, and says so to nobody
  fi
  mv "$d/lock" "$d/lock.$$"
  [ "$(readlink "$d/lock.$$")" = "$old" ] || busy somebody # two found it at once: the other one was faster
  rm -f "$d/lock.$$"
  take || busy somebody
fi
trap 'rm -f "$d/lock"; exit 0' TERM INT HUP
own=$(group $$)
for f in "$d"/run/*; do
  [ -f "$f" ] || continue
  read -r c s <"$f"
  [ "$c" != "$own" ] || continue
  if lives "$c" "$s"; then
    kill -TERM "-$c" 2>/dev/null || kill -TERM "$c" 2>/dev/null
    sleep 1
    kill -KILL "-$c" 2>/dev/null || kill -KILL "$c" 2>/dev/null
  fi
  rm -f "$f"
done
echo held
while :; do
  sleep 3600 &
  wait $!
done
